import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows import repository
from pipeline.errors import ParamsError, PipelineError
from pipeline.params import Params
from tests.conftest import ROOT, Checkout


@pytest.fixture
def clone(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository of one commit whose git knows no author."""
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("EMAIL", "")
    repository.git("init", "-q", "-b", "main")
    repository.git("add", "-A")
    repository.git("-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "-qm", "start")
    repository.git("config", "user.useConfigOnly", "true")
    return checkout.root


def test_setting_params_keeps_comments_and_layout(checkout: Checkout) -> None:
    before = Path("params.yaml").read_text()
    repository.set_params(
        {"evaluate.champion": "0" * 15 + "a", "train.rank": 32, "gate.floors": {"default": 0.1}}
    )
    after = Path("params.yaml").read_text()
    params = Params.load()
    assert (params.evaluate.champion, params.train.rank) == ("0" * 15 + "a", 32)
    changed = [(a, b) for a, b in zip(before.splitlines(), after.splitlines(), strict=True) if a != b]
    assert len(changed) == 3
    assert [line.count("#") for line in before.splitlines()] == [
        line.count("#") for line in after.splitlines()
    ]
    repository.set_params({"evaluate.champion": None, "train.rank": 16, "gate.floors": {}})
    assert Path("params.yaml").read_text() == before


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("train.rnak", 8, "train.rnak"),
        ("trian.rank", 8, "trian.rank"),
        ("train.rank", "x", "train.rank"),
        ("rank", 1, "rank"),
    ],
)
def test_a_bad_setting_names_the_key_and_changes_nothing(
    checkout: Checkout, name: str, value: object, said: str
) -> None:
    before = Path("params.yaml").read_bytes()
    with pytest.raises(ParamsError, match=f"params.yaml: .*{said}"):
        repository.set_params({name: value})
    assert Path("params.yaml").read_bytes() == before
    assert [path.name for path in Path().iterdir()] == ["params.yaml"]


def test_results_are_committed_beside_the_users_work(clone: Path) -> None:
    Path("dvc.lock").write_text("schema: '2.0'\n")
    Path("draft.txt").write_text("mine")
    repository.git("add", "draft.txt")
    kept = repository.commit_results("retrain/a-1", "Retraining a")
    assert kept.branch == "retrain/a-1"
    assert repository.git("ls-tree", "--name-only", kept.commit).splitlines() == ["dvc.lock", "params.yaml"]
    assert repository.git("status", "--porcelain").splitlines() == ["A  draft.txt", "?? dvc.lock"]
    assert repository.git("log", "-1", "--format=%an", kept.commit) == "moelora"
    assert repository.git("branch", "--show-current") == "main"
    assert repository.commit_results("retrain/b-2", "again") == kept
    repository.git("branch", "-q", "-m", "retrain/a-1", "elsewhere")
    assert repository.commit_results("retrain/b-2", "again").branch == "retrain/b-2"


def test_nothing_is_committed_where_head_holds_it_already(clone: Path) -> None:
    assert repository.commit_results("retrain/a-1", "same") == repository.Kept(None, repository.head())


def test_a_tag_needs_its_commit_and_stays(clone: Path) -> None:
    assert repository.tag("release/x", repository.head())
    assert not repository.tag("release/x", repository.head())
    assert not repository.tag("release/y", "0" * 40)


def test_no_repository_is_said_in_one_line(checkout: Checkout) -> None:
    with pytest.raises(PipelineError, match=r"git rev-parse: .*not a git repository"):
        repository.head()


def test_one_retraining_at_a_time(checkout: Checkout) -> None:
    other = "from flows import repository\nwith repository.one_at_a_time(): print('in')"
    with repository.one_at_a_time(), repository.one_at_a_time():
        done = subprocess.run(
            [sys.executable, "-c", other], capture_output=True, text=True, cwd=checkout.root
        )
        assert f"another retraining runs in this checkout (process {os.getpid()})" in done.stderr
    done = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True, cwd=checkout.root)
    assert done.stdout == "in\n"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('denied: "/x/data/inbox/b/O\'Brien Maura.csv"', 'denied: "/x/data/inbox/…'),
        ("md5 of data/inbox/march/Ann Smith.jsonl", "md5 of data/inbox/…"),
        ("'data/quarantine/0123.parquet' is busy", "'data/quarantine/…"),
        ("data/inbox is tracked", "data/inbox is tracked"),
    ],
)
def test_names_of_raw_files_are_cut(line: str, said: str) -> None:
    assert repository.without_names(line) == said


def test_dvc_and_git_keep_scratch_and_keys_out() -> None:
    ignored = ("scratch/x", "data/key.id", "models/base/config.json", "reports/data_docs/index.html")
    done = subprocess.run(["git", "check-ignore", *ignored], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines() == list(ignored)
    config = (ROOT / ".dvc/config").read_text()
    assert "analytics = false" in config
    assert "url = ../scratch/remotes/private" in config


@pytest.mark.parametrize(("left", "stays"), [("", False), ('{"write": {"a', False), ("{}", True)])
def test_a_lock_that_a_killed_dvc_left_half_written_blocks_no_later_one(
    clone: Path, left: str, stays: bool
) -> None:
    (clone / "data/inbox").mkdir(parents=True)
    (clone / "data/inbox/one").write_text("1")
    repository.DVC_LOCK.parent.mkdir(parents=True, exist_ok=True)
    repository.DVC_LOCK.write_text(left)
    if not stays:
        with pytest.raises(PipelineError, match="JSON structure is corrupted"):
            repository.dvc("add", "data/inbox")
    repository.drop_broken_lock()
    assert repository.DVC_LOCK.exists() == stays
    repository.dvc("add", "data/inbox")
