"""compose.yaml as it is read, and secrets made for it."""

import yaml

from tests.infra.files import INFRA, Json


def compose() -> dict[str, Json]:
    services: dict[str, Json] = document()["services"]
    return services


def document() -> Json:
    read: Json = yaml.safe_load((INFRA / "compose/compose.yaml").read_text())
    return read


def is_ours(service: Json) -> bool:
    """Whether `moelora` itself runs in it."""
    return service["image"].startswith("moelora:") and "entrypoint" not in service


def secrets_of(service: Json) -> set[str]:
    return {each if isinstance(each, str) else each["source"] for each in service.get("secrets", [])}


def s3_may(keys: dict[str, str], act: str, bucket: str, key: str) -> bool:
    """Whether S3 lets the owner of these keys do it; a refusal is the only other answer."""
    import boto3
    from botocore.exceptions import ClientError

    client = boto3.client(
        "s3",
        endpoint_url=keys["AWS_ENDPOINT_URL"],
        region_name=keys["AWS_DEFAULT_REGION"],
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
    )
    try:
        if act == "list":
            client.list_objects_v2(Bucket=bucket, Prefix="registry/")
        elif act == "put":
            client.put_object(Bucket=bucket, Key=key, Body=b"x")
        else:
            getattr(client, f"{act}_object")(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] == "AccessDenied":
            return False
        raise
    return True
