"""Whether a release is what a release has to be: trusted, whole, nothing extra, tensors that fit.

    registry.verify   the signature, every file's digest, nothing missing or added
    here              files of known kinds alone, tensors in safetensors, and shapes that fit the layers
                      of adapter.json and those of the base model that the lineage names

The base is looked at where models/base is that very model, by its digest.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import paths, tensors
from pipeline.digests import folder_digest
from pipeline.errors import ReleaseCorrupt
from pipeline.registry import ABOUT_THE_FILES, Registry
from pipeline.tensors import Shapes

KINDS = (".json", ".md", ".safetensors")
"""Endings of a release's files: nothing that runs, or that may hold code when it is read."""

ADAPTER = f"{paths.RELEASE_NATIVE.name}/adapter.safetensors"
FACTS = f"{paths.RELEASE_NATIVE.name}/adapter.json"
LINEAGE = "lineage.json"
_PEFT = "base_model.model."


@dataclass(frozen=True)
class Files:
    """A release's files wherever they lie: ``sizes`` in bytes by path; ``read`` gives a file,
    ``read_start`` its first bytes, as many as asked for."""

    sizes: Mapping[str, int]
    read: Callable[[str], bytes]
    read_start: Callable[[str, int], bytes]


def problems(registry: Registry, release: str) -> list[str]:
    """What is wrong with a published release, a line each; reads every byte of it.

    Raises ReleaseNotFound, ReleaseErased.
    """
    return registry.verify(release) or content_problems(registry, release)


def content_problems(registry: Registry, release: str) -> list[str]:
    """The part that looks at kinds and tensors alone. Raises what ``Registry.manifest`` does."""
    sizes = {file["path"]: file["size"] for file in registry.manifest(release)["files"]}
    files = Files(
        sizes,
        lambda path: registry.read(release, path),
        lambda path, count: registry.read_start(release, path, count),
    )
    return list(_problems(files, base_shapes()))


def folder_problems(folder: Path) -> list[str]:
    """The same of a pulled release, whose digests ``verify_folder`` has compared."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in found}

    def read_start(path: str, count: int) -> bytes:
        with (folder / path).open("rb") as file:
            return file.read(count)

    wanted = {path: size for path, size in sizes.items() if path not in ABOUT_THE_FILES}
    files = Files(wanted, lambda path: (folder / path).read_bytes(), read_start)
    return list(_problems(files, base_shapes()))


def check_folder(folder: Path, release: str) -> None:
    """Raise ReleaseCorrupt where ``folder_problems`` finds any in a pulled release."""
    if found := folder_problems(folder):
        raise ReleaseCorrupt(f"release {release}: {'; '.join(found)}: do not use it")


def base_shapes() -> tuple[str, Shapes] | None:
    """Digest and tensors of models/base, or None where there is none."""
    found = sorted(paths.BASE.glob("*.safetensors"))
    if not found:
        return None
    named: Shapes = {}
    for path in found:
        named |= tensors.read_shapes(path)
    return folder_digest(paths.BASE), named


def _problems(files: Files, base: tuple[str, Shapes] | None) -> Iterator[str]:
    for path in files.sizes:
        if not path.endswith(KINDS):
            yield f"file {path}: neither safetensors, JSON nor Markdown: a release holds nothing else"
    found: dict[str, Shapes] = {}
    for path, size in files.sizes.items():
        if path.endswith(".safetensors"):
            try:
                start = files.read_start(path, tensors.LENGTH)
                start = files.read_start(path, tensors.LENGTH + tensors.header_length(start))
                found[path] = tensors.shapes(start, size)
            except ValueError as error:
                yield f"file {path}: no safetensors file: {error}"
    if not found:
        return
    try:
        facts = json.loads(files.read(FACTS))
        rank = int(facts["config"]["rank"])
        layers = {name: (int(d_in), int(d_out)) for name, (d_in, d_out) in facts["base"]["layers"].items()}
    except (KeyError, ValueError, TypeError, AttributeError):
        yield f"file {FACTS}: field base.layers or config.rank is missing: tensors cannot be compared with it"
        return
    for path, shapes in found.items():
        yield from (f"file {path}: {text}" for text in _misfits(_expected(path, layers, rank), shapes))
    if base is not None and base[0] == _base_digest(files):
        yield from (f"file {FACTS}: {text}" for text in _outside(base[1], layers))


def _base_digest(files: Files) -> str | None:
    if LINEAGE not in files.sizes:
        return None
    lineage: dict[str, Any] = json.loads(files.read(LINEAGE))
    return str(lineage["base"]["digest"])


def _expected(path: str, layers: Mapping[str, tuple[int, int]], rank: int) -> Shapes:
    """Shapes that a file of this path must have: A [r, d_in] and B [d_out, r] of every layer."""
    native = path == ADAPTER
    names = (
        ("layers.{}.A", "layers.{}.B")
        if native
        else (f"{_PEFT}{{}}.lora_A.weight", f"{_PEFT}{{}}.lora_B.weight")
    )
    expected: Shapes = {}
    for layer, (d_in, d_out) in layers.items():
        expected |= {names[0].format(layer): (rank, d_in), names[1].format(layer): (d_out, rank)}
    return expected


def _misfits(expected: Shapes, found: Shapes) -> Iterator[str]:
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            yield f"tensor {name} is missing"
        elif name not in expected:
            if not name.startswith("gate."):
                yield f"tensor {name} belongs to no layer of {FACTS}"
        elif found[name] != expected[name]:
            shape, wanted = list(found[name]), list(expected[name])
            yield f"tensor {name} has the shape {shape}, and its layer asks for {wanted}"


def _outside(base: Shapes, layers: Mapping[str, tuple[int, int]]) -> Iterator[str]:
    """Layers that the base model has not, or has with other widths (Conv1D keeps them transposed)."""
    for layer, (d_in, d_out) in layers.items():
        wanted = f"{layer}.weight"
        # Some files leave the model's own prefix out.
        shape = next((shape for name, shape in base.items() if f".{wanted}".endswith(f".{name}")), None)
        if shape is None:
            yield f"layer {layer} is none of the base model in {paths.BASE}"
        elif shape not in ((d_out, d_in), (d_in, d_out)):
            yield f"layer {layer} maps {d_in} to {d_out}, and is {list(shape)} in the base in {paths.BASE}"
