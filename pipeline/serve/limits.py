"""What one request may ask, and how much may wait."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of requests; what is beyond is refused before it costs anything."""

    prompt_tokens: int = 512
    """Of each prompt, the chat template's own included. Evaluation cuts the middle out of longer
    ones; a server that did so silently would answer another question than it was asked."""

    max_tokens: int = 64
    """Tokens of an answer, at most and by default."""

    body_bytes: int = 1 << 20
    """Of a request's body."""

    prompts: int = 32
    """Prompts of one request, and of a batch unless one request fills it alone."""

    @property
    def tokens(self) -> int:
        """Of a request's prompts, each with all its choices: twice what prompts alone may have."""
        return 2 * self.prompts * (self.prompt_tokens + self.max_tokens)

    waiting: int = 512
    """Prompts that wait for the worker; more are refused with 429."""

    timeout_s: float = 60.0
    """From a request's first byte to its answer."""
