"""What the engine says when something goes wrong."""

import torch

from branchwise.core.errors import BackendError


def closed() -> BackendError:
    """What a request to a closed engine gets."""
    return BackendError("the engine is closed", retryable=False, hint="load it again")


def no_memory() -> BackendError:
    """What a request gets that the memory can't hold alone."""
    return BackendError(
        "memory: the engine's memory cannot hold this path alone",
        retryable=False,
        hint="raise the engine's memory setting, or use a shorter prompt or max_tokens",
    )


def failed(error: Exception) -> BackendError:
    """What a request gets whose part in a step raised `error`."""
    if isinstance(error, BackendError):
        return error
    return BackendError(
        f"the engine failed in a step ({type(error).__name__}: {error})",
        retryable=isinstance(error, torch.OutOfMemoryError),
        hint="report this with the model's name",
    )
