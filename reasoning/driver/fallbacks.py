"""Fallbacks of the driver: retries of failed calls, and requests reduced to the capabilities of the backend.

Every reduction is noted; the notes are `Result.degraded`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import NamedTuple, TypeVar

from branchwise.backends.base import Capabilities
from branchwise.core.errors import BackendError, BranchwiseError, ConfigError
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.strategies.strategy import AnyStrategy

log = logging.getLogger(__name__)

Returned = TypeVar("Returned")
Note = Callable[[str], None]

RETRY_DELAYS = (0.1, 0.4)
"""Seconds to wait before each retry. There are no more retries than delays."""

NO_SCORES = "the backend does not score given texts: scores were left out"
SLOW_ANSWERS = "some answers took too long to compare: they count as different unless they are written alike"
NO_CANCEL = "the backend cannot stop one branch of a request: cancelled branches were sampled to their end"


async def retry(call_name: str, call: Callable[[], Awaitable[Returned]]) -> Returned:
    """Return the call's result, repeating it after retryable errors. Raises BranchwiseError."""
    for delay in (*RETRY_DELAYS, None):
        try:
            return await call()
        except Exception as error:
            failure = as_branchwise_error(call_name, error)
            if delay is None or not is_retryable(failure):
                raise failure from error
        await asyncio.sleep(delay)
    raise AssertionError("the last attempt returns or raises")


def as_branchwise_error(call_name: str, error: Exception) -> BranchwiseError:
    """Return `error`, wrapped in a BackendError if it is a bug of the backend: it then fails one request only."""
    if isinstance(error, BranchwiseError):
        return error
    return BackendError(
        f"{call_name}: the backend failed with {type(error).__name__}: {error}",
        retryable=False,
        hint="report this with the backend's name",
    )


def is_retryable(error: BranchwiseError) -> bool:
    """Return whether the same request may succeed later."""
    return isinstance(error, BackendError) and error.retryable


class RunnableStrategy(NamedTuple):
    """A strategy that the backend can run, and the notes on what it replaces."""

    strategy: AnyStrategy
    notes: tuple[str, ...] = ()


def runnable(strategy: AnyStrategy, capabilities: Capabilities, *, allow_fallback: bool) -> RunnableStrategy:
    """Return the strategy, or its fallback if it continues paths and the backend does not.

    Raises ConfigError for such a strategy unless `allow_fallback` is set.
    """
    other = strategy.fallback
    if other is None or capabilities.continues:
        return RunnableStrategy(strategy)
    if not allow_fallback:
        raise ConfigError(
            "strategy",
            f"{strategy.name} continues paths, and the server of {capabilities.model} does not continue text",
            "use one that votes, such as self-consistency, or allow_fallback=True (--allow-fallback) to vote instead",
        )
    note = f"{strategy.name}: the server does not continue text, so paths from the prompt voted instead"
    log.warning("warning: %s", note)
    return RunnableStrategy(other, (note,))


def standing_notes(capabilities: Capabilities) -> tuple[str, ...]:
    """Return the notes that apply to every run on the backend, whatever the strategy requests."""
    notes = [*capabilities.changes, *capabilities.notes]
    if not capabilities.keyed:
        notes.append("the backend does not sample by key: the same seed may give other paths")
    if not capabilities.counted:
        notes.append("the server reports no usage: sampled tokens are counted here, prompt tokens are estimated")
    if capabilities.prefix_reuse == 0:
        notes.append("the backend keeps no prefixes: shared prefixes are computed again for every path")
    if not capabilities.token_out:
        cut = ", cut between words" if capabilities.continues else " and can't be cut into steps"
        notes.append(f"the backend shows no tokens: paths are text{cut}")
    return tuple(notes)


def fit_sampling(sampling: Sampling, capabilities: Capabilities, note: Note) -> Sampling:
    """Return `sampling` with at most as many alternatives per token as the backend reports."""
    limit = capabilities.top_k_logprobs if capabilities.logprobs else 0
    if sampling.logprobs <= limit:
        return sampling
    note(f"{sampling.logprobs} alternatives per token were requested, the backend reports {limit}")
    return replace(sampling, logprobs=limit)


def note_retokenization(path: Path, capabilities: Capabilities, note: Note) -> None:
    """Note that continuing `path` tokenizes its text again, if the backend takes no tokens."""
    if path.parent is not None and not capabilities.token_in:
        note("the backend takes no tokens: prefixes are tokenized again by the server")
