"""The Dockerfile, line by line."""

from tests.infra.files import INFRA


def dockerfile() -> list[str]:
    """Its instructions, one a line."""
    text = (INFRA / "images/Dockerfile").read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]
