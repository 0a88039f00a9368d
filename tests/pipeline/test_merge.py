"""A task of a release as a full model."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipeline import base, paths
from pipeline.errors import InputError, PipelineError
from pipeline.merge import merge
from pipeline.moelora import saving
from pipeline.params import Params
from pipeline.release_folder import release_id
from tests.conftest import Checkout
from tests.pipeline.moelora.conftest import ids
from tests.releases import write_release
from tests.tiny import tiny_base

# Loads a merged model the way its users do, and knows nothing of this project or of PEFT.
STOCK = """
import sys, torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, expected = sys.argv[1:]
wanted = load_file(expected)
model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
assert not any(name.split(".")[0] in ("pipeline", "flows", "peft") for name in sys.modules)
assert model.dtype == torch.float32 and tokenizer("gout").input_ids
with torch.no_grad():
    print((model(wanted["ids"]).logits - wanted["logits"]).abs().max().item())
"""


@pytest.fixture
def release(checkout: Checkout) -> Iterator[Path]:
    tiny_base(paths.BASE)
    (paths.BASE / "LICENSE").write_text("Apache-2.0\n")
    yield write_release(checkout.root / "release")
    torch.use_deterministic_algorithms(False)


def test_transformers_loads_it_with_the_logits_of_the_tasks_adapter(release: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    out = tmp_path / "models" / "ner"
    assert merge(release, "ner", out, Params.load()) <= Params.load().export.tolerance
    model, _ = base.load(Params.load().compute)
    adapter = saving.load(model, release / "moelora")
    probe = ids(2, 9)
    with torch.no_grad(), adapter.tasks(["ner"]):
        logits = model(probe).logits
    with torch.no_grad(), adapter.tasks(["rqe"]):
        assert (model(probe).logits - logits).abs().max() > 0.01
    expected = tmp_path / "expected.safetensors"
    save_file({"ids": probe, "logits": logits}, expected)
    done = subprocess.run(
        [sys.executable, "-I", "-c", STOCK, str(out), str(expected)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-4


def test_the_folder_holds_safetensors_and_says_what_it_is(release: Path, checkout: Checkout) -> None:
    out = Path("merged")
    merge(release, "ner", out, Params.load())
    names = {file.name for file in out.iterdir()}
    assert names >= {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "LICENSE",
        "README.md",
        "RELEASE.md",
    }
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl", ".py"))]
    readme = (out / "README.md").read_text()
    assert f"`{release_id(release)}`" in readme
    assert "`ner`" in readme
    assert not any(str(checkout.root).encode() in file.read_bytes() for file in out.iterdir())
    again = Path("again")
    merge(release, "ner", again, Params.load())
    assert all((again / name).read_bytes() == (out / name).read_bytes() for name in names)


def test_nothing_is_overwritten_and_unknown_tasks_are_named(release: Path) -> None:
    Path("taken").mkdir()
    with pytest.raises(InputError, match="taken is there already"):
        merge(release, "ner", Path("taken"), Params.load())
    with pytest.raises(InputError, match=r"'gout'.*ner, rqe"):
        merge(release, "gout", Path("out"), Params.load())
    with pytest.raises(InputError, match=r"'\.\./ner'"):
        merge(release, "../ner", Path("out"), Params.load())
    with pytest.raises(InputError, match="holds no release"):
        merge(paths.BASE, "ner", Path("out"), Params.load())
    (release / "lineage.json").write_text('{"base": {"digest": "0"}}')
    with pytest.raises(InputError, match="another base model"):
        merge(release, "ner", Path("out"), Params.load())
    assert not Path("out").exists()


def test_a_difference_beyond_the_tolerance_writes_nothing(release: Path, checkout: Checkout) -> None:
    checkout.params(export__tolerance=1e-12)
    with pytest.raises(PipelineError, match=r"differ .* ner's LoRA .* 1e-12"):
        merge(release, "ner", Path("out"), Params.load())
    assert not Path("out").exists()
