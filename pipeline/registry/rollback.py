"""Going back: where to, and the move."""

from itertools import chain

from pipeline.errors import InputError
from pipeline.registry.channel import Channel, Move, move, read_channel, walk_moves
from pipeline.registry.history import Entry
from pipeline.registry.store import Store
from pipeline.registry.tombstone import is_erased

EVENT = "rolled back"


def roll_back(store: Store, name: str, to: str | None, by: str, reason: str) -> Channel:
    """See Registry.roll_back."""
    if not reason.strip():
        raise InputError("a rollback needs a reason: --reason TEXT")
    before = read_channel(store, name)
    if before is None:
        raise InputError(f"there is no {name} to roll back from: moelora promote sets one")
    walk = walk_moves(store, before)
    walked = [next(walk)]
    if to is None:
        to = walked[0]["previous"]
        if walked[0]["intended"] == EVENT or (to is not None and is_erased(store, to)):
            walked += walk
            to = next((each for each in ways_back(walked) if not is_erased(store, each)), None)
    if to is None:
        raise InputError(f"no {name} is left before {before.release}: name one by --to, see moelora history")
    if to == before.release:
        raise InputError(f"{to} is the {name} already: nothing to do")
    earlier = next((each for each in chain(walked, walk) if each["release"] == to), None)
    if earlier is None:
        raise InputError(
            f"{to} never was the {name}, so it is no way back: moelora promote {to} judges it first"
        )
    wish = Move(name, to, by, reason, event=EVENT)
    return move(store, wish, before, promoted_manifest=earlier.get("manifest_sha256"))


def ways_back(moves: list[Entry]) -> list[str]:
    """The releases that a rollback without a name may go to after ``moves``, the newest first, the best
    first: past all that were rolled back from since."""
    line: list[str] = []
    for each in reversed(moves):
        release = each["release"]
        if each["intended"] == EVENT:
            line = [other for other in line if other != each["previous"]]
            if release in line:
                line = line[: line.index(release)]
        line = [other for other in line if other != release] + [release]
    return line[-2::-1]
