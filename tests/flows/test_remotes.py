import os
from pathlib import Path

from flows import remotes
from tests.conftest import Checkout

COMMITTED = """
[core]
    remote = shared
['remote "shared"']
    url = ../scratch/remotes/shared
['remote "private"']
    url = s3://bucket/private
"""


def test_this_machines_own_options_come_over_the_committed(checkout: Checkout) -> None:
    Path(".dvc").mkdir()
    Path(".dvc/config").write_text(COMMITTED)
    Path(".dvc/config.local").write_text("['remote \"private\"']\n    endpointurl = http://127.0.0.1:1\n")
    found = remotes.remotes()
    assert found["shared"] == {"url": str(checkout.root.resolve() / "scratch/remotes/shared")}
    assert found["private"] == {"url": "s3://bucket/private", "endpointurl": "http://127.0.0.1:1"}


def test_a_clone_gets_the_same_remotes_for_its_owner_alone(checkout: Checkout) -> None:
    Path(".dvc").mkdir()
    Path(".dvc/config").write_text(COMMITTED)
    known = remotes.remotes()
    Path("clone/.dvc").mkdir(parents=True)
    remotes.write_own(Path("clone"), known)
    own = Path("clone/.dvc/config.local")
    assert own.stat().st_mode & 0o077 == 0
    os.chdir("clone")
    assert remotes.remotes() == known
