"""Retry policy for requests to a server, within the settings' attempts and time."""

from collections.abc import Callable, Container

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, stop_before_delay
from tenacity.wait import wait_random_exponential

from branchwise.backends.openai.server_errors import ServerError
from branchwise.backends.openai.settings import OpenAISettings

# Full jitter: a random part of a window that doubles, in seconds.
_jitter = wait_random_exponential(multiplier=0.25, max=8)


def retry_policy(
    settings: OpenAISettings,
    *,
    may_retry: Callable[[], bool],
    has_alternative: Callable[[], bool],
    final_statuses: Container[int | None] = (),
) -> AsyncRetrying:
    """Return a policy that repeats a request until it succeeds, fails for good or exhausts the settings.

    `may_retry` is asked before each repetition. `has_alternative` returns True if another replica can take the request
    at once. An error whose status is in `final_statuses` is not retried. A server's Retry-After is observed. The last
    error is raised.
    """

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        if isinstance(error, ServerError):
            if has_alternative() and (error.unreachable or state.attempt_number == 1):
                return 0.0
            if error.retry_after is not None:
                return error.retry_after + _jitter(state) / 8  # spread the requests that wait for the same time
        return _jitter(state)

    def should_retry(error: BaseException) -> bool:
        if not isinstance(error, ServerError) or error.status in final_statuses:
            return False
        return error.retryable and may_retry()

    return AsyncRetrying(
        retry=retry_if_exception(should_retry),
        wait=wait,
        stop=stop_after_attempt(settings.retries + 1) | stop_before_delay(settings.retry_seconds),
        reraise=True,
    )
