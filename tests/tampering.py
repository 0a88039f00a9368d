"""Ways to tamper with the files of a release, wherever they lie."""

import random
from collections.abc import Mapping

KINDS = ("byte flip", "removed", "added", "renamed", "swapped")
Files = dict[str, bytes]


def tamper(files: Mapping[str, bytes], kind: str, chance: random.Random) -> tuple[Files, set[str]]:
    """The files after one change of this kind, and the names of those it concerns."""
    changed = dict(files)
    name = chance.choice(sorted(files))
    match kind:
        case "byte flip":
            data = bytearray(changed[name])
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            changed[name] = bytes(data)
            return changed, {name}
        case "removed":
            del changed[name]
            return changed, {name}
        case "added":
            new = f"{name.rpartition('/')[0] or 'tasks'}/extra-{chance.randrange(10**6)}.bin"
            changed[new] = chance.randbytes(20)
            return changed, {new}
        case "renamed":
            new = f"{name}.{chance.randrange(10**6)}"
            changed[new] = changed.pop(name)
            return changed, {name, new}
    other = chance.choice(sorted(each for each in files if files[each] != files[name]))
    changed[name], changed[other] = changed[other], changed[name]
    return changed, {name, other}
