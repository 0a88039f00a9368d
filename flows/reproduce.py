"""Make a release anew in a clone of its own, and compare it with the published one.

The clone stands at the commit that the registry's history names, takes the data of that commit from
the DVC remotes, and runs the stages from ingest to export, which is all that the adapter depends on.
Where the raw data or the key is not to be had, it begins with split, on the de-identified data.

Byte identity is promised for the same versions, device class and instruction set.
"""

import json
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from flows import remotes, repository
from pipeline import STAGES, paths
from pipeline.digests import folder_digest, listing
from pipeline.errors import InputError, PipelineError
from pipeline.files import link_or_copy

LAST = "export"
"""The stage that writes what is compared."""

Log = Callable[[str], None]
Trace = dict[str, Any]
"""What pipeline.lineage.trace gives."""


def reproduce(trace: Trace, digests: dict[str, str], folder: Path, log: Log) -> dict[str, Any]:
    """Run the stages of a release in the new ``folder``; ``digests``: its published files' SHA-256.

    ``release, git_commit, began_with`` (stage), ``versions`` {package: [then, now]} where they
    differ, ``stages`` {stage: same | differs}, ``first`` (of the first stage that differs: stage and
    outs, see ``_changed_outs``), ``files`` (of the adapter: compared, different), ``differs``,
    ``verdict``.

    Raises InputError where the commit or the base is not to be had or ``folder`` is in use,
    PipelineError where data cannot be pulled or a stage fails.
    """
    commit = clone(trace, folder)
    prepare_base(trace, folder)
    began_with = pull_data(trace, folder)
    log(f"cloned at {commit[:12]}; begins with {began_with}")
    before = _outs(_locked(folder))
    wanted = STAGES[STAGES.index(began_with) : STAGES.index(LAST) + 1]
    for stage in wanted:
        run_stage(stage, folder)
        log(f"{stage}: made again")
    after = _outs(_locked(folder))
    stages = {stage: "same" if before[stage] == after[stage] else "differs" for stage in wanted}
    first = next((stage for stage in wanted if stages[stage] == "differs"), None)
    made = listing(folder / paths.RELEASE)
    adapter = (f"{paths.RELEASE_NATIVE.name}/", f"{paths.RELEASE_TASKS.name}/")
    published = {path: digest for path, digest in digests.items() if path.startswith(adapter)}
    different = sorted(path for path in {*made, *published} if made.get(path) != published.get(path))
    versions = _other_versions(trace)
    return {
        "release": trace["release"],
        "git_commit": commit,
        "began_with": began_with,
        "versions": versions,
        "stages": stages,
        "first": first and {"stage": first, "outs": _changed_outs(before[first], after[first], folder)},
        "files": {"compared": len(published), "different": different},
        "differs": bool(different),
        "verdict": _verdict(trace["release"], different, first, versions),
    }


def clone(trace: Trace, folder: Path) -> str:
    """A clone of this checkout at the release's commit, with this checkout's remotes; the commit.

    Raises InputError; PipelineError where the commit's dvc.lock tells of another run.
    """
    found = trace["commit"]
    release = trace["release"]
    if found is None:
        raise InputError(
            f"the registry's history names no git commit for {release}: it was published outside of a "
            "repository, so its code cannot be told"
        )
    commit = str(found["git_commit"])
    try:
        repository.git("cat-file", "-e", f"{commit}^{{commit}}")
    except PipelineError:
        raise InputError(
            f"commit {commit} of release {release} is not in this clone: fetch "
            f"{'branch ' + found['branch'] if found['branch'] else 'it'} from where it was made"
        ) from None
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is in use: name a new folder by --to, or remove it")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)  # raw text will lie in it
    repository.git("clone", "--quiet", "--no-checkout", str(Path.cwd()), str(folder))
    repository.git("-C", str(folder), "checkout", "--quiet", "--detach", commit)
    remotes.write_own(folder, remotes.remotes())
    locked = _locked(folder)
    if _without_inbox(locked) != trace["stages"]:
        raise PipelineError(
            f"{paths.DVC_LOCK} of commit {commit} tells of another run than {release}: the release was made "
            "before its results were committed, find the branch retrain/… that holds them"
        )
    return commit


def prepare_base(trace: Trace, folder: Path) -> None:
    """The base model of the release in the clone, by its digest. Raises InputError."""
    base, target = trace["base"], folder / paths.BASE
    if paths.BASE.is_dir() and folder_digest(paths.BASE) == base["digest"]:
        for path in sorted(paths.BASE.rglob("*")):
            if path.is_file():
                link_or_copy(path.resolve(), target / path.relative_to(paths.BASE))
        return
    done = _run(["python", "-m", "pipeline.base"], folder)
    if done.returncode or folder_digest(target) != base["digest"]:
        raise InputError(
            f"the base model {base['model']} with the digest {base['digest'][:16]}… is not to be had: set "
            f"`base` in {paths.PARAMS} to it and run moelora base, then again"
        )


def pull_data(trace: Trace, folder: Path) -> str:
    """The data of the clone's commit, raw where it and its key are to be had; the stage to begin with.

    Raises PipelineError where there is neither.
    """
    identity = folder / paths.KEY_ID
    identity.parent.mkdir(parents=True, exist_ok=True)
    identity.write_text(f"{trace['key_id']}\n")
    reasons = []
    raw = f"{paths.INBOX}.dvc"
    for target, stage in ((raw, "ingest"), (str(paths.DEIDENTIFIED), "split")):
        if target == raw and not _has_key(trace, folder):
            reasons.append(f"MOELORA_DEID_KEY is not the key {trace['key_id']}")
            continue
        done = _run([*repository.DVC, "pull", target], folder)
        if done.returncode == 0:
            return stage
        last = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")] or [
            "no reason given"
        ]
        reasons.append(f"{target}: {repository.without_names(last[-1].removeprefix('ERROR: '))}")
    raise PipelineError(
        f"the data of release {trace['release']} is not to be had: {'; '.join(reasons)}. "
        "Look at `dvc remote list`"
    )


def run_stage(stage: str, folder: Path) -> None:
    """Run one stage in the clone, whatever DVC has kept of it. Raises PipelineError."""
    options = ["--single-item", "--force", "--no-run-cache"]
    done = _run([*repository.DVC, "repro", *options, stage], folder)
    if done.returncode:
        try:
            reason = json.loads((folder / paths.status(stage)).read_text())["error"]
        except (OSError, ValueError, KeyError):
            reason = None
        raise PipelineError(f"reproduce: {stage} failed in {folder}: {reason or 'see dvc repro there'}")


def adapter_difference(published: Path, made: Path) -> dict[str, Any]:
    """By how much the adapters in two folders differ: ``largest`` difference of a value,
    ``relative``: norm of the differences by norm of the published; None where tensors differ in
    name or shape."""
    import numpy as np
    from safetensors.numpy import load_file

    first, second = (load_file(folder / "adapter.safetensors") for folder in (published, made))
    shapes = [{name: each.shape for name, each in tensors.items()} for tensors in (first, second)]
    if shapes[0] != shapes[1]:
        return {"largest": None, "relative": None}
    largest = max(float(np.abs(first[name] - second[name]).max()) for name in first)
    norms = [
        float(np.sqrt(sum(float((each**2).sum(dtype="float64")) for each in values)))
        for values in ((first[name] - second[name] for name in first), first.values())
    ]
    return {"largest": largest, "relative": norms[0] / norms[1] if norms[1] else 0.0}


def told(result: dict[str, Any]) -> list[str]:
    """The result in lines for a person."""
    lines = [f"{stage}: {state}" for stage, state in result["stages"].items()]
    for name, (then, now) in result["versions"].items():
        lines.append(f"{name} was {then}, and is {now} here")
    if result["first"]:
        lines += [f"{out['path']}: {out['said']}" for out in result["first"]["outs"]]
    if adapter := result.get("adapter"):
        lines.append(f"adapter: largest difference {adapter['largest']}, relative {adapter['relative']}")
    return lines


def _verdict(release: str, different: list[str], first: str | None, versions: dict[str, Any]) -> str:
    if not different:
        return f"the adapter of {release} is byte-identical"
    where = (
        f"{first} is the first stage that differs" if first else "no stage differs: the release itself does"
    )
    why = " (other package versions are installed: install those first)" if versions else ""
    return f"the adapter of {release} is not identical: {len(different)} files differ; {where}{why}"


def _other_versions(trace: Trace) -> dict[str, list[str]]:
    now = {name: metadata.version(name) for name in trace["packages"]}
    return {name: [then, now[name]] for name, then in sorted(trace["packages"].items()) if then != now[name]}


def _locked(folder: Path) -> dict[str, Any]:
    try:
        locked: dict[str, Any] = yaml.safe_load((folder / paths.DVC_LOCK).read_text())["stages"]
    except FileNotFoundError:
        return {}
    return {stage: locked[stage] for stage in STAGES[:-1] if stage in locked}


def _without_inbox(locked: dict[str, Any]) -> dict[str, Any]:
    """As lineage.json keeps it: the inbox's digest would tell names of files."""
    if "ingest" not in locked:
        return locked
    deps = [dep for dep in locked["ingest"]["deps"] if dep["path"] != str(paths.INBOX)]
    return locked | {"ingest": locked["ingest"] | {"deps": deps}}


def _outs(locked: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    return {stage: {out["path"]: out for out in entry.get("outs", [])} for stage, entry in locked.items()}


def _changed_outs(
    before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]], folder: Path
) -> list[dict[str, Any]]:
    """``path, said`` of each output whose digest is another, ``said`` in counts where they are known."""
    changed = []
    for path, old in before.items():
        new = after[path]
        if old["md5"] == new["md5"]:
            continue
        then, now = (_files(old["md5"], Path()), _files(new["md5"], folder))
        if then is None or now is None:
            said = f"{old.get('size')} bytes then, {new.get('size')} now"
        else:
            different = [name for name in {*then, *now} if then.get(name) != now.get(name)]
            said = f"{len(different)} of {len({*then, *now})} files differ"
        changed.append({"path": path, "said": said})
    return changed


def _files(md5: str, checkout: Path) -> dict[str, str] | None:
    """Digest of each file of a folder by its name, from DVC's cache of a checkout."""
    path = checkout / repository.CACHE / "files/md5" / md5[:2] / md5[2:]
    if not md5.endswith(".dir") or not path.is_file():
        return None
    return {each["relpath"]: each["md5"] for each in json.loads(path.read_text())}


def _has_key(trace: Trace, folder: Path) -> bool:
    """Whether the key in use is the release's; for the sample data the published one is."""
    code = "import sys; from pipeline import key; key.check_key_id(key.load(sys.argv[1:]))"
    return _run(["python", "-c", code, *trace["inputs"]], folder).returncode == 0


def _run(command: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run a command in the clone, with a cache of its own: nothing finished elsewhere is used."""
    cache = str((folder / paths.SCRATCH).resolve())
    environment = repository.environment() | {"MOELORA_CACHE": cache, "PWD": str(folder.resolve())}
    environment.pop("DVC_ROOT", None)
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
