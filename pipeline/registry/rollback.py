"""Going back: where to, and the move."""

from pipeline.errors import InputError
from pipeline.registry.channel import Channel, Move, move, read_channel, read_moves
from pipeline.registry.history import Entry
from pipeline.registry.store import Store

EVENT = "rolled back"


def roll_back(store: Store, name: str, to: str | None, by: str, reason: str) -> Channel:
    """See Registry.roll_back."""
    if not reason.strip():
        raise InputError("a rollback needs a reason: --reason TEXT")
    before = read_channel(store, name)
    if before is None:
        raise InputError(f"there is no {name} to roll back from: moelora promote sets one")
    moves = read_moves(store, before)
    to = to or way_back(moves)
    if to is None:
        raise InputError(f"no {name} is left before {before.release}: name one by --to, see moelora history")
    if to == before.release:
        raise InputError(f"{to} is the {name} already: nothing to do")
    earlier = [each for each in moves if each["release"] == to]
    if not earlier:
        raise InputError(
            f"{to} never was the {name}, so it is no way back: moelora promote {to} judges it first"
        )
    wish = Move(name, to, by, reason, event=EVENT)
    return move(store, wish, before, promoted_manifest=earlier[-1].get("manifest_sha256"))


def way_back(moves: list[Entry]) -> str | None:
    """The release a rollback without a name goes to after ``moves``, the oldest first: past all that
    were rolled back from since."""
    line: list[str] = []
    for each in moves:
        release = each["release"]
        if each["intended"] == EVENT:
            line = [other for other in line if other != each["previous"]]
            if release in line:
                line = line[: line.index(release)]
        line = [other for other in line if other != release] + [release]
    return line[-2] if len(line) > 1 else None
