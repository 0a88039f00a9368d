"""Releases in memory: each an adapter in the same base model, whose weights they share."""

import copy
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import base
from pipeline.errors import ParamsError
from pipeline.moelora import saving
from pipeline.params import Compute
from pipeline.paths import RELEASE_NATIVE
from pipeline.release_folder import check_base
from pipeline.serve.answering import Answerer
from pipeline.serve.limits import Limits


@dataclass(frozen=True)
class Served:
    """A release that answers."""

    release: str
    tasks: tuple[str, ...]
    answerer: Answerer
    loaded_at: int  # Unix time


class Loader:
    """The base model in memory once, and releases loaded into it without a look at each other."""

    def __init__(self, compute: Compute, limits: Limits, batch_tokens: int) -> None:
        """Raises BaseModelError, ParamsError of ``base.load``, and ParamsError where the model has
        no room for prompts and answers of the limits."""
        self._model, self._tokenizer = base.load(compute)
        self._batch_tokens = batch_tokens
        window = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        if window is not None and limits.prompt_tokens + limits.max_tokens > window:
            raise ParamsError(
                f"the base model reads {window} tokens, fewer than {limits.prompt_tokens} of a prompt and "
                f"{limits.max_tokens} of its answer: lower --max-prompt-tokens or --max-tokens"
            )

    def tokenizer(self) -> Any:
        """One to encode with, the caller's own: encoding changes a tokenizer's settings, and the worker's
        thread decodes with the one here."""
        return copy.deepcopy(self._tokenizer)

    def load(self, folder: Path, release: str) -> Served:
        """The release of a verified folder; of other releases nothing changes.

        Raises InputError where it was trained on another base, DataError where it is damaged.
        """
        check_base(folder)
        weights = (*self._model.parameters(), *self._model.buffers())
        # A second tree of modules around the same tensors.
        model = copy.deepcopy(self._model, {id(tensor): tensor for tensor in weights})
        adapter = saving.load(model, folder / RELEASE_NATIVE.name)
        adapter.eval()
        answerer = Answerer(model, self._tokenizer, adapter, self._batch_tokens)
        return Served(release, tuple(sorted(adapter.config.tasks)), answerer, int(time.time()))
