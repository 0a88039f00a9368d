"""A checkout of this repository with a tiny base model, its service, and what plain DVC makes of it."""

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

from pipeline import paths
from pipeline.digests import folder_digest
from tests.bench.checkout import copy_checkout
from tests.service import Service, environment, is_final, until
from tests.test_end_to_end import records, write
from tests.tiny import tiny_base

TINY = {
    "train.max_tokens": 400,
    "train.micro_batch_tokens": 4000,
    "train.batch_records": 8,
    "train.validate_every": 50,
    "train.validation_records": 16,
    "resample.canaries": 4,
    "evaluate.max_new_tokens": 4,
    "evaluate.batch_tokens": 8000,
    "evaluate.resamples": 999,
    # A tiny random model learns nothing; its losses by chance must not block it.
    "gate.margin": 1.0,
    "gate.min_phi_recall": 0.5,
    "gate.max_residual_rate": 1.0,
    "gate.max_effective_epochs": 1000.0,
    "resample.max_epochs": 1000.0,
}


def make(folder: Path, steps: int) -> Service:
    """A service whose training takes ``steps`` steps; nothing runs yet."""
    root, drop = folder / "checkout", folder / "drop"
    drop.mkdir(parents=True)
    copy_checkout(root)
    tiny_base(folder / "tiny")
    env = environment() | {
        "MOELORA_DEID_KEY": base64.b64encode(bytes(range(32))).decode(),
        "PYTHONPATH": str(root),
        "HOME": str(folder),
    }
    service = Service(root, drop, env)
    service.git("init", "-q", "-b", "main")
    service.git("config", "user.name", "Bench")
    service.git("config", "user.email", "bench@example.org")
    set_params(
        service, TINY | {"base.model": str(folder / "tiny"), "resample.records": steps * 8}, commit=False
    )
    service.git("add", "-A")
    service.git("commit", "-qm", "start")
    write(root / "data/inbox/first/a.jsonl", records("which-doctor", 40))
    write(root / "data/inbox/first/b.jsonl", records("summary", 60, start=1000))
    return service


def set_params(service: Service, values: dict[str, object], commit: bool = True) -> None:
    """Set parameters on main, where runs start from."""
    path = service.root / "params.yaml"
    params = yaml.safe_load(path.read_text())
    for name, value in values.items():
        section, key = name.split(".")
        params[section][key] = value
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    if commit:
        service.git("commit", "-qam", ", ".join(f"{name}: {value}" for name, value in values.items()))


def arrive(service: Service, number: int) -> None:
    """Drop a file of eight records that nobody has seen."""
    write(service.drop / f"arrival_{number}.jsonl", records("summary", 8, start=10_000 + 100 * number))


def idle(service: Service, seconds: float = 600) -> None:
    """Wait until no retraining is waiting or running."""
    until(lambda: all(is_final(run) for run in service.runs("retrain")), seconds)


def released(service: Service) -> str:
    """Digest of the exported adapter in the retrainings' clone."""
    return folder_digest(service.clone("cpu", "retrain") / paths.RELEASE)


def plain_dvc(service: Service, folder: Path) -> tuple[str, float]:
    """What `dvc repro` makes of main and the service's inbox: the adapter's digest, and the seconds."""
    subprocess.run(["git", "clone", "-q", str(service.root), str(folder)], check=True)
    inbox = service.home("cpu") / "inbox"
    source = inbox if inbox.is_dir() else service.root / "data/inbox"
    shutil.copytree(source, folder / "data/inbox", dirs_exist_ok=True)
    (folder / "scratch").mkdir()
    (folder / "scratch/services").symlink_to(service.root / "scratch/services")
    # A cache of its own: nothing finished elsewhere is used.
    env = service.env | {"PYTHONPATH": str(folder), "MOELORA_CACHE": str(folder / "scratch")}
    for command in (["flows.cli", "prepare"], ["dvc", "repro", "-q"]):
        began = time.monotonic()
        subprocess.run([sys.executable, "-m", *command], cwd=folder, env=env, check=True, capture_output=True)
    return folder_digest(folder / paths.RELEASE), time.monotonic() - began


def training_step(service: Service) -> int:
    """Steps that the training on the GPU worker has taken; 0 where none is under way."""
    path = service.clone("gpu", "gpu-stage") / paths.status("train")
    try:
        status = json.loads(path.read_text())
    except (OSError, ValueError):
        return 0
    return int(status["done"] or 0) if status["state"] == "running" and status["total"] else 0


def contents(service: Service) -> list[str]:
    """Digest of each file in the service's inbox."""
    files = (path for path in (service.home("cpu") / "inbox").rglob("*") if path.is_file())
    return sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)
