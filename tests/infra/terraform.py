"""The Terraform configuration as it is read, and what it lets each role do."""

import json
import re
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import hcl2

from tests.infra.files import INFRA, Json


@cache
def configuration() -> Json:
    """All blocks of infra/terraform: kind, then labels, then the body; quotes of strings taken off."""
    blocks: Json = {}
    for path in sorted((INFRA / "terraform").glob("*.tf")):
        with path.open() as file:
            for kind, found in unquoted(hcl2.load(file)).items():
                for block in found if isinstance(found, list) else []:
                    merge(blocks.setdefault(kind, {}), block)
    return blocks


def unquoted(part: Any) -> Any:
    if isinstance(part, dict):
        return {name.strip('"'): unquoted(each) for name, each in part.items() if not name.startswith("__")}
    if isinstance(part, list):
        return [unquoted(each) for each in part]
    return part[1:-1] if isinstance(part, str) and part[:1] == part[-1:] == '"' else part


def merge(into: Json, more: Json) -> None:
    for name, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            merge(into[name], value)
        else:
            into[name] = value


def grants() -> list[dict[str, str]]:
    return list(configuration()["locals"]["grants"].values())


@cache
def statements(role: str) -> list[Json]:
    """A role's rights in S3, as Terraform makes them of infra/s3."""
    text = (INFRA / "terraform/roles.tf").read_text()
    replaced = set(re.findall(r'"(BUCKET|PREFIX|CHANNEL)",', text))
    assert replaced == {"BUCKET", "PREFIX", "CHANNEL"}
    return [
        statement
        for grant in grants()
        if grant["role"] == role
        for statement in json.loads(policy(grant["policy"], grant["bucket"]))["Statement"]
    ]


def policy(name: str, bucket: str) -> str:
    text = (INFRA / f"s3/{name}.json").read_text()
    for word, value in {"BUCKET": f"ours-{bucket}", "PREFIX": "registry", "CHANNEL": "champion"}.items():
        text = text.replace(word, value)
    return text


def allowed(role: str, action: str, resource: str) -> bool:
    """Conditions are taken as met: they can only narrow."""
    return any(
        any(fnmatchcase(action, each) for each in statement["Action"])
        and any(fnmatchcase(f"arn:aws:s3:::{resource}", each) for each in statement["Resource"])
        for statement in statements(role)
    )
