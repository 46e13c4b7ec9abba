"""Trying again what failed for a reason that may pass."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from branchwise.core.errors import BackendError, BranchwiseError

Returned = TypeVar("Returned")

PAUSES = (0.1, 0.4)
"""Seconds to wait before each further attempt; there are no more than these."""


def as_error(what: str, error: Exception) -> BranchwiseError:
    """A backend's failure as an error that costs one request: what it did not raise on purpose is a bug of its own."""
    if isinstance(error, BranchwiseError):
        return error
    return BackendError(
        f"{what}: the backend failed with {type(error).__name__}: {error}",
        retryable=False,
        hint="report this with the backend's name",
    )


def may_pass(error: BranchwiseError) -> bool:
    """Whether the same request may succeed later."""
    return isinstance(error, BackendError) and error.retryable


async def retry(what: str, call: Callable[[], Awaitable[Returned]]) -> Returned:
    """The call's result, after as many attempts as are worth it. Raises BranchwiseError."""
    for pause in (*PAUSES, None):
        try:
            return await call()
        except Exception as error:
            failure = as_error(what, error)
            if pause is None or not may_pass(failure):
                raise failure from error
        await asyncio.sleep(pause)
    raise AssertionError("the last attempt returns or raises")
