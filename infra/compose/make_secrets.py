"""Make the secrets that compose.yaml reads, each once: what is there stays as it is.

python infra/compose/make_secrets.py

.env                  Prefect's and PostgreSQL's passwords, beside what example.env asks for
secrets/s3.json       the keys of the S3 server and what each may do: the policies of infra/s3
secrets/ROLE.env      a worker's own S3 key; of cpu also the de-identification key. Back that one up.
secrets/git-ROLE      username=… and password=… for git, empty until you write them
"""

import base64
import json
import os
import secrets
from pathlib import Path

HERE = Path(__file__).parent
POLICIES = HERE.parent / "s3"

RAW, SHARED, REGISTRY = "moelora-raw", "moelora-shared", "moelora-registry"
PREFIX, CHANNEL = "registry", "champion"

ROLES = {
    "cpu": [("dvc", RAW), ("dvc", SHARED), ("publisher", REGISTRY)],
    "gpu": [("dvc", SHARED), ("reader", REGISTRY)],
    "promote": [("promoter", REGISTRY)],
}
"""What each worker may do in S3: policy of infra/s3, bucket."""

ADMIN = ["Admin", "Read", "Write", "List", "Tagging"]


def main(folder: Path = HERE) -> None:
    """Write below ``folder`` what is missing there."""
    kept = folder / "secrets"
    kept.mkdir(mode=0o700, exist_ok=True)
    new(folder / ".env", dotenv(), mode=0o600)
    keys = {
        role: {"accessKey": secrets.token_hex(10), "secretKey": secrets.token_urlsafe(30)}
        for role in ("admin", *ROLES)
    }
    # All or none: a key that the server does not know would be of no use.
    if new(kept / "s3.json", json.dumps(identities(keys), indent=2)):
        for role, key in keys.items():
            text = f"AWS_ACCESS_KEY_ID={key['accessKey']}\nAWS_SECRET_ACCESS_KEY={key['secretKey']}\n"
            (kept / f"{role}.env").unlink(missing_ok=True)
            new(kept / f"{role}.env", text)
    new(kept / "deid.env", f"MOELORA_DEID_KEY={base64.b64encode(secrets.token_bytes(32)).decode()}\n")
    for role in ROLES:
        new(kept / f"git-{role}", "")


def dotenv() -> str:
    """example.env with the two secrets filled in."""
    made = {
        "PREFECT_AUTH_STRING=": f"PREFECT_AUTH_STRING=moelora:{secrets.token_urlsafe(30)}",
        "POSTGRES_PASSWORD=": f"POSTGRES_PASSWORD={secrets.token_urlsafe(30)}",
    }
    lines = (HERE / "example.env").read_text().splitlines()
    return "".join(f"{made.get(line, line)}\n" for line in lines)


def identities(keys: dict[str, dict[str, str]]) -> dict[str, object]:
    """SeaweedFS's list of keys, each with its policies; the admin makes the buckets."""
    return {
        "identities": [
            {"name": "admin", "credentials": [keys["admin"]], "actions": ADMIN},
            *(
                {
                    "name": role,
                    "credentials": [keys[role]],
                    "policyNames": [f"{policy}-{bucket}" for policy, bucket in grants],
                }
                for role, grants in ROLES.items()
            ),
        ],
        "policies": [
            {"name": f"{policy}-{bucket}", "content": content(policy, bucket)}
            for policy, bucket in sorted({grant for grants in ROLES.values() for grant in grants})
        ],
    }


def content(policy: str, bucket: str) -> str:
    """A policy of infra/s3 for a bucket."""
    text = (POLICIES / f"{policy}.json").read_text()
    for word, value in {"BUCKET": bucket, "PREFIX": PREFIX, "CHANNEL": CHANNEL}.items():
        text = text.replace(word, value)
    return text


def new(path: Path, text: str, mode: int = 0o444) -> bool:
    """Write a file that is not there yet; whether it was not.

    A container's user is another than yours and must read its own: the folder is closed instead.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    return True


if __name__ == "__main__":
    main()
