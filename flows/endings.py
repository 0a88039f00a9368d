"""The states in which runs end."""

import os
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Failed

from pipeline.errors import PipelineError, Stopped


def ended_by(error: PipelineError) -> "State[Any]":
    """The state for an error raised on purpose: its message says all, so no traceback is logged."""
    if isinstance(error, Stopped):
        return Cancelled(name="Stopped", message=str(error))
    return Failed(message=str(error), data=error)


def without_paths(error: OSError) -> PipelineError:
    """A system error in words that name no file: those of raw data are private."""
    return PipelineError(f"{type(error).__name__}: {os.strerror(error.errno or 0)}: see the worker's disk")
