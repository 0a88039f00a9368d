"""What clients ask and how they are refused: OpenAI's completions, plus ``task`` and ``choices``.

Fields that would change an answer in a way not offered here are refused by name; those that cannot
(``seed``, ``user``, ``top_p`` at temperature 0) are taken and change nothing.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

FAULTS = 20  # of a body that are told
MAX_CHOICES = 64
MAX_STOPS = 4  # as OpenAI's

Text = Annotated[str, Field(min_length=1)]
_GREEDY = "only greedy answers are offered: leave it out or set it to 0"


class Refused(Exception):
    """A request that is not answered: the HTTP status, OpenAI's error object, headers.

    The message never holds text of a prompt.
    """

    def __init__(
        self, status: int, code: str, message: str, param: str | None = None, **headers: str
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


class Completion(BaseModel):
    """The body of POST /v1/completions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: Text
    """A task that the release knows."""
    prompt: Text | Annotated[list[Text], Field(min_length=1)]
    """The whole input of a record, or several, answered in order."""
    model: str | None = None
    """The channel or the id of the release that must answer; left out: whichever is served."""
    choices: Annotated[list[Text], Field(min_length=1, max_length=MAX_CHOICES)] | None = None
    """Possible answers: the likeliest is given, and the log-likelihood of each."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Of a free answer; left out: the server's limit."""
    stop: Text | Annotated[list[Text], Field(max_length=MAX_STOPS)] | None = None
    """A free answer ends before the first of these."""
    temperature: float | None = None
    n: Literal[1] = 1
    best_of: Literal[1] = 1
    stream: Literal[False] = False
    echo: Literal[False] = False
    logprobs: None = None
    suffix: None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    top_p: float | None = None
    seed: int | None = None
    user: str | None = None

    @field_validator("temperature", "presence_penalty", "frequency_penalty")
    @classmethod
    def _zero(cls, value: float | None) -> float | None:
        if value:
            raise ValueError(_GREEDY)
        return value

    @field_validator("choices")
    @classmethod
    def _each_once(cls, choices: list[str] | None) -> list[str] | None:
        if choices and len(set(choices)) < len(choices):
            raise ValueError("a choice is given twice")
        return choices

    @property
    def prompts(self) -> list[str]:
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


def parse(body: bytes) -> Completion:
    """The request in a body; Refused with 400 that names the field at fault."""
    try:
        return Completion.model_validate_json(body)
    except ValidationError as error:
        if error.error_count() > FAULTS:
            raise Refused(400, "invalid_request", f"the body has more than {FAULTS} faults") from None
        # Without the input, which is text of a prompt where that is at fault.
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        fields = [".".join(str(part) for part in fault["loc"]) for fault in faults]
        text = "; ".join(
            f"{field or 'body'}: {fault['msg']}" for field, fault in zip(fields, faults, strict=True)
        )
        param = fields[0].partition(".")[0] or None
        raise Refused(400, "invalid_request", text, param) from None
