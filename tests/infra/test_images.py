"""The images are accepted by hadolint, and hold what make installs and no more."""

import os
import re
import subprocess
from pathlib import Path

from tests.conftest import ROOT
from tests.infra.files import INFRA, run
from tests.infra.images import dockerfile


def test_dockerfile_pleases_hadolint() -> None:
    run("hadolint", "--failure-threshold", "style", INFRA / "images/Dockerfile")


def test_images_run_moelora_as_nobody_special_and_send_no_telemetry() -> None:
    lines = dockerfile()
    assert 'ENTRYPOINT ["moelora"]' in lines
    assert [line for line in lines if line.startswith("USER ")] == ["USER 10001"]
    for target in ("cpu", "gpu"):
        assert f"FROM worker AS {target}" in lines
    environment = next(line for line in lines if line.startswith("ENV "))
    assert "DO_NOT_TRACK=1" in environment
    assert "PREFECT_SERVER_ANALYTICS_ENABLED=false" in environment
    assert not re.search(r"^(ARG|ENV) .*(KEY|SECRET|TOKEN|PASSWORD)", "\n".join(lines), re.M)


def test_images_install_what_make_installs() -> None:
    make = (ROOT / "Makefile").read_text()
    apart = set(re.findall(r"--no-deps (\S+)", make))
    installs = [line for line in dockerfile() if line.startswith("RUN pip install")]
    assert len(installs) == 2
    for line in installs:
        assert line.count("--constraint constraints.txt") == 2
        assert apart <= set(line.split())
    assert ["whl/cpu" in line for line in installs] == [True, False]


def test_nothing_is_sent_to_the_builder_but_what_is_named() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    named = [rule[1:].removesuffix("/**") for rule in rules if rule.startswith("!")]
    assert all((ROOT / name).exists() for name in named)
    assert not any(
        name.startswith(("data", "models", "reports", "scratch", "infra/compose")) for name in named
    )


def test_git_gets_its_credential_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("username=robot\npassword=a token\n")
    script = (INFRA / "images/git-credential-file").read_text()
    helper = tmp_path / "helper"
    helper.write_text(script.replace("/run/secrets/git", str(tmp_path / "secret")))
    helper.chmod(0o755)
    for action, expected in (("fill", "password=a token"), ("approve", "")):
        done = subprocess.run(
            ["git", "-c", "credential.helper=", "-c", f"credential.helper={helper}", "credential", action],
            input="protocol=https\nhost=git.example.org\nusername=robot\npassword=x\n"
            if action == "approve"
            else "protocol=https\nhost=git.example.org\n",
            capture_output=True,
            text=True,
            env=os.environ | {"GIT_TERMINAL_PROMPT": "0"},
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert expected in done.stdout
    assert (tmp_path / "secret").read_text().endswith("a token\n")
