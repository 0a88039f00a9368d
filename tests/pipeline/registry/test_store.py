"""How a store reads what AWS answers and the test server does not."""

import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from pipeline.registry.client import connect
from pipeline.registry.store import Store

KEY = "prefix/tombstones/0.json"


def answered(listed: list[str]) -> tuple[Store, Stubber]:
    client = connect()
    stub = Stubber(client)
    stub.add_client_error("get_object", "AccessDenied", http_status_code=403)
    stub.add_response("list_objects_v2", {"Contents": [{"Key": key} for key in listed], "IsTruncated": False})
    return Store(client, "bucket", "prefix"), stub


@pytest.mark.usefixtures("checkout")
def test_a_missing_object_that_aws_does_not_admit_to_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    store, stub = answered([KEY + ".old"])
    with stub:
        assert store.get(KEY) is None


@pytest.mark.usefixtures("checkout")
def test_one_that_is_there_and_may_not_be_read_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    store, stub = answered([KEY])
    with stub, pytest.raises(ClientError, match="AccessDenied"):
        store.get(KEY)
