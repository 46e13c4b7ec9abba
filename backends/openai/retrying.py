"""Trying again what failed before anything came of it."""

from collections.abc import Callable, Container

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, stop_before_delay
from tenacity.wait import wait_random_exponential

from branchwise.backends.openai.failures import ServerError
from branchwise.backends.openai.settings import OpenAISettings

# Full jitter: a random part of a window that doubles, in seconds.
_jitter = wait_random_exponential(multiplier=0.25, max=8)


def retrying(
    settings: OpenAISettings,
    may: Callable[[], bool],
    elsewhere: Callable[[], bool],
    final: Container[int | None] = (),
) -> AsyncRetrying:
    """Runs a request until it succeeds, fails for good, or the settings' patience ends; then its last error is raised.

    `may` says whether it may be made again at all, `elsewhere` whether another replica can take it at once; an answer
    with a status in `final` is the last one. A server that says how long to wait is obeyed.
    """

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        if isinstance(error, ServerError):
            if elsewhere() and (error.unreachable or state.attempt_number == 1):
                return 0.0
            if error.wait is not None:
                return error.wait + _jitter(state) / 8  # not all at once
        return _jitter(state)

    def again(error: BaseException) -> bool:
        return isinstance(error, ServerError) and error.retryable and error.status not in final and may()

    return AsyncRetrying(
        retry=retry_if_exception(again),
        wait=wait,
        stop=stop_after_attempt(settings.retries + 1) | stop_before_delay(settings.retry_seconds),
        reraise=True,
    )
