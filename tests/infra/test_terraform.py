"""The configuration is whole, and AWS would give every role its own and no more. No cloud is asked."""

import json
import re
import shutil
from pathlib import Path

import pytest
from policy_sentry.querying.actions import get_action_data

from tests.infra.files import INFRA, ROLES, needs, run
from tests.infra.terraform import allowed, configuration, grants, policy, statements


def test_terraform_files_are_formatted_hcl() -> None:
    assert set(configuration()) >= {"terraform", "variable", "locals", "resource", "data", "output"}
    needs("terraform")
    run("terraform", "fmt", "-check", "-diff", INFRA / "terraform")


@pytest.mark.network
def test_terraform_accepts_the_configuration(tmp_path: Path) -> None:
    """Needs the provider, which `init` downloads."""
    needs("terraform")
    shutil.copytree(INFRA, tmp_path / "infra")
    run("terraform", "init", "-backend=false", cwd=tmp_path / "infra/terraform")
    run("terraform", "validate", cwd=tmp_path / "infra/terraform")


def test_every_reference_in_terraform_resolves() -> None:
    blocks = configuration()
    text = "\n".join(path.read_text() for path in (INFRA / "terraform").glob("*.tf"))
    text = re.sub(r"^\s*#.*", "", text, flags=re.M)
    assert set(re.findall(r"\bvar\.(\w+)", text)) == set(blocks["variable"])
    assert set(re.findall(r"\blocal\.(\w+)", text)) == set(blocks["locals"])
    for kind, prefix in (("data", r"\bdata\."), ("resource", r"(?<!data\.)\b")):
        for type_, name in re.findall(prefix + r"(aws_\w+)\.(\w+)", text):
            assert name in blocks[kind].get(type_, {}), f"{type_}.{name}"
    for name in re.findall(r'file\("\$\{path\.module\}/([^$]+)', text):
        assert (INFRA / "terraform" / name).is_dir()
    assert all(each.get("description") and each.get("type") for each in blocks["variable"].values())
    assert all(each.get("description") for each in blocks["output"].values())


def test_buckets_are_closed_encrypted_and_versioned() -> None:
    resources = configuration()["resource"]
    for kind in (
        "public_access_block",
        "ownership_controls",
        "versioning",
        "server_side_encryption_configuration",
        "lifecycle_configuration",
        "policy",
    ):
        assert resources[f"aws_s3_bucket_{kind}"]["this"]["for_each"] == "${local.buckets}", kind
    closed = resources["aws_s3_bucket_public_access_block"]["this"]
    assert all(closed[name] is True for name in closed if name not in ("for_each", "bucket"))
    assert len(closed) == 6
    assert resources["aws_kms_key"]["bucket"]["for_each"] == "${local.buckets}"
    (statement,) = configuration()["data"]["aws_iam_policy_document"]["tls_only"]["statement"]
    assert statement["effect"] == "Deny"
    assert statement["condition"][0]["variable"] == "aws:SecureTransport"


def test_policies_name_actions_of_aws_on_what_they_act_on() -> None:
    """By AWS's own list: `s3:GetObject` on a bucket, or a misspelt action, would grant nothing."""
    used = {(grant["policy"], grant["bucket"]) for grant in grants()} | {("admin", "registry")}
    assert {f"{name}.json" for name, _ in used} == {path.name for path in (INFRA / "s3").glob("*.json")}
    for name, bucket in used:
        text = policy(name, bucket)
        assert not re.search("BUCKET|PREFIX|CHANNEL", text)
        document = json.loads(text)
        assert document["Version"] == "2012-10-17"
        for statement in document["Statement"]:
            assert set(statement) <= {"Sid", "Effect", "Action", "Resource", "Condition"}
            for action in statement["Action"]:
                known = get_action_data(*action.split(":")).get("s3", [])
                assert known, (name, action)
                kinds = [re.sub(r"\$\{\w+\}", "[^:]+", each["resource_arn_format"]) for each in known]
                kinds = [kind.replace("[^:]+:s3:::[^:]+", "aws:s3:::[^/]+") for kind in kinds if kind != "*"]
                for resource in statement["Resource"]:
                    assert any(re.fullmatch(kind, resource) for kind in kinds), (name, action, resource)
                keys = {key for each in known for key in each["condition_keys"]}
                assert {key for each in statement.get("Condition", {}).values() for key in each} <= keys
    assert not get_action_data("s3", "PutObjekt")


def test_aws_gives_each_role_its_own_and_no_more() -> None:
    reads = {
        "cpu": {"ours-raw", "ours-shared", "ours-registry"},
        "gpu": {"ours-shared", "ours-registry"},
        "promote": {"ours-registry"},
        "reader": {"ours-registry"},
    }
    assert {grant["role"] for grant in grants()} == set(reads)
    champion = "ours-registry/registry/channels/champion.json"
    release = "ours-registry/registry/releases/0123456789abcdef/README.md"
    for role, buckets in reads.items():
        found = {
            bucket
            for bucket in reads["cpu"]
            if allowed(role, "s3:GetObject", f"{bucket}/registry/any")
            or allowed(role, "s3:ListBucket", bucket)
        }
        assert found == buckets, role
        assert not any(
            "Delete" in action or "*" in action for each in statements(role) for action in each["Action"]
        )
    assert [role for role in reads if allowed(role, "s3:PutObject", champion)] == ["promote"]
    assert [role for role in reads if allowed(role, "s3:PutObject", release)] == ["cpu"]
    assert [role for role in reads if allowed(role, "s3:PutObject", "ours-shared/files/any")] == [
        "cpu",
        "gpu",
    ]
    roles = configuration()["resource"]["aws_iam_role_policy"]
    sources = roles["sources"]
    assert {each["for_each"] for name, each in roles.items() if name != "sources"} == {"${local.grants}"}
    assert "cpu" in sources["role"]
    document = configuration()["data"]["aws_iam_policy_document"]["sources"]
    granted = [each["statement"]["content"][0]["actions"] for each in document["dynamic"]]
    assert granted == [["s3:ListBucket"], ["s3:GetObject"], ["kms:Decrypt"]]


def test_compose_and_aws_grant_the_same(made: Path) -> None:
    identities = json.loads((made / "secrets/s3.json").read_text())["identities"]
    of_compose = {each["name"]: set(each["policyNames"]) for each in identities if "policyNames" in each}
    of_aws = {
        role: {f"{each['policy']}-moelora-{each['bucket']}" for each in grants() if each["role"] == role}
        for role in ROLES
    }
    assert of_compose == of_aws
