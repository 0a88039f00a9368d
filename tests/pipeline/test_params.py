import pytest

from pipeline.errors import ParamsError
from pipeline.params import Params
from tests.conftest import Checkout


def test_the_committed_file_is_valid(checkout: Checkout) -> None:
    assert Params.load().train.rank % Params.load().train.experts == 0


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("train__rnak", 8, "train.rnak"),
        ("train__experts", 3, "not divisible"),
        ("train__gate", "each", "train.gate"),
        ("train__scaling", "dora", "train.scaling"),
        ("train__lora_plus_ratio", 0, "train.lora_plus_ratio"),
        ("train__patience", 0, "train.patience"),
        ("compute__quantize", "int8", "compute.quantize"),
        ("compute__shard_base", "half", "compute.shard_base"),
        ("resample__alpha", 2, "resample.alpha"),
        ("evaluate__champion", "latest", "evaluate.champion"),
        ("evaluate__tasks", {"../x": {"metric": "accuracy"}}, "no task name"),
        ("evaluate__resamples", 199, "evaluate.resamples 199 .* set 280 or more"),
        ("gate__error_shares", {"no_harm": 0}, "gate.error_shares.no_harm"),
        ("gate__slices", "allow", "gate.slices"),
        ("gate__max_membership_auc", 0.4, "gate.max_membership_auc"),
        ("gate__max_ece", 2, "gate.max_ece"),
        ("evaluate__membership_rows", -1, "evaluate.membership_rows"),
        ("evaluate__extraction_rows", 10**6, "evaluate.extraction_rows"),
        ("resample__canaries", 10**6, "resample.canaries"),
        ("publish__registry", "s3://bucket/../x", "s3://BUCKET/PREFIX"),
        ("publish__registry", "here", "must be local"),
        ("split__test", 0.95, "below 1"),
    ],
)
def test_a_bad_value_is_named(checkout: Checkout, name: str, value: object, said: str) -> None:
    checkout.params(**{name: value})
    with pytest.raises(ParamsError, match=said):
        Params.load()


def test_a_value_does_not_change(checkout: Checkout) -> None:
    with pytest.raises(ValueError, match="frozen"):
        Params.load().train.rank = 1  # type: ignore[misc]


def test_no_file_and_no_yaml_are_told(checkout: Checkout) -> None:
    (checkout.root / "params.yaml").write_text("a: [")
    with pytest.raises(ParamsError, match="no YAML at line 1"):
        Params.load()
    (checkout.root / "params.yaml").unlink()
    with pytest.raises(ParamsError, match="root of a checkout"):
        Params.load()
