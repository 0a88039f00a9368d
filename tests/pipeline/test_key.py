"""The key: what is accepted, for which data, and that it tells nothing about itself."""

import base64
import hashlib
import hmac

import pytest

from pipeline import key, paths, sample_data
from pipeline.errors import DeidKeyError
from tests.conftest import Checkout

OWN = bytes(range(32))
OTHER_DATA = {"0123456789abcdef"}


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(key.VARIABLE, raising=False)


def set_key(monkeypatch: pytest.MonkeyPatch, value: bytes) -> None:
    monkeypatch.setenv(key.VARIABLE, base64.b64encode(value).decode())


def test_a_key_of_32_bytes_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    set_key(monkeypatch, OWN)
    assert key.load(OTHER_DATA) == OWN


def test_without_a_key_the_sample_data_gets_the_demo_key_and_a_note(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert key.load(sample_data.shards()) == key.DEMO_KEY
    assert "demo key" in capsys.readouterr().out


@pytest.mark.parametrize("shards", [OTHER_DATA, OTHER_DATA | sample_data.shards()])
def test_without_a_key_other_data_is_refused_with_the_remedy(shards: set[str]) -> None:
    with pytest.raises(DeidKeyError, match=r"export MOELORA_DEID_KEY=\$\(openssl rand -base64 32\).*keep it"):
        key.load(shards)


def test_the_demo_key_is_refused_for_other_data(monkeypatch: pytest.MonkeyPatch) -> None:
    set_key(monkeypatch, key.DEMO_KEY)
    assert key.load(sample_data.shards()) == key.DEMO_KEY
    with pytest.raises(DeidKeyError, match="demo key"):
        key.load(OTHER_DATA)


@pytest.mark.parametrize(
    "value",
    ["", "not base64!", base64.b64encode(OWN[:31]).decode(), base64.b64encode(OWN + b"1").decode(), "ключ"],
)
def test_anything_but_32_bytes_in_base64_is_refused_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv(key.VARIABLE, value)
    with pytest.raises(DeidKeyError) as raised:
        key.load(OTHER_DATA)
    assert not value or value not in str(raised.value)


def test_the_id_is_an_hmac_under_the_key() -> None:
    assert key.key_id(OWN) == hmac.new(OWN, b"moelora-key-id", hashlib.sha256).hexdigest()[:16]


def test_another_key_than_the_one_written_down_is_refused(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_key(monkeypatch, OWN)
    with pytest.raises(DeidKeyError, match=r"data/key\.id is missing"):
        key.check_key_id(OWN)
    assert key.write_key_id(OTHER_DATA) == key.key_id(OWN)
    key.check_key_id(OWN)
    with pytest.raises(DeidKeyError, match=r"set MOELORA_DEID_KEY"):
        key.check_key_id(OWN[::-1])
    paths.KEY_ID.write_bytes(b"\xff\xfe")
    with pytest.raises(DeidKeyError):
        key.check_key_id(OWN)
