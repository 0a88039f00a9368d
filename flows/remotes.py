"""The DVC remotes of this checkout, as its configuration names them.

.dvc/config          committed; a local path is relative to .dvc
.dvc/config.local    this machine's own: addresses and credentials, never committed
"""

import configparser
from pathlib import Path

FOLDER = Path(".dvc")
OWN = "config.local"


def remotes() -> dict[str, dict[str, str]]:
    """Name of each remote to its options; ``url`` absolute where it is a path of this machine."""
    found: dict[str, dict[str, str]] = {}
    for name in ("config", OWN):
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(FOLDER / name)
        for section in parser.sections():
            kind, _, quoted = section.strip("'").partition(" ")
            if kind == "remote":
                found.setdefault(quoted.strip('"'), {}).update(parser[section])
    for options in found.values():
        if "://" not in options.get("url", "://"):
            options["url"] = str((FOLDER / Path(options["url"]).expanduser()).resolve())
    return found


def write_own(folder: Path, known: dict[str, dict[str, str]], cache: Path | None = None) -> None:
    """Give the checkout in ``folder`` these remotes, and a folder for DVC's cache, for itself alone."""
    parser = configparser.ConfigParser(interpolation=None)
    if cache is not None:
        parser["cache"] = {"dir": str(cache)}
    for name, options in known.items():
        parser[f"'remote \"{name}\"'"] = options
    path = folder / FOLDER / OWN
    path.touch(mode=0o600)
    with path.open("w") as file:
        parser.write(file)
