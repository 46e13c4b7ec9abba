"""Errors that the engine reports to its callers."""

import torch

from branchwise.core.errors import BackendError


def closed_error() -> BackendError:
    """Return the error of a request to a closed engine."""
    return BackendError("the engine is closed", retryable=False, hint="load it again")


def out_of_memory_error() -> BackendError:
    """Return the error of a path that does not fit into an otherwise empty cache."""
    return BackendError(
        "memory: the engine's memory cannot hold this path alone",
        retryable=False,
        hint="raise the engine's memory setting, or use a shorter prompt or max_tokens",
    )


def step_error(error: Exception) -> BackendError:
    """Return the error of a request whose part in a step raised `error`."""
    if isinstance(error, BackendError):
        return error
    return BackendError(
        f"the engine failed in a step ({type(error).__name__}: {error})",
        retryable=isinstance(error, torch.OutOfMemoryError),
        hint="report this with the model's name",
    )
