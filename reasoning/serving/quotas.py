"""The use that clients make of their quotas."""

import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from branchwise.chat.turn import Charge
from branchwise.core.errors import MissingExtraError
from branchwise.serving.clients import Client
from branchwise.serving.errors import HTTPError

try:
    from limits import RateLimitItemPerMinute
    from limits.storage import MemoryStorage
    from limits.strategies import FixedWindowRateLimiter
except ImportError as error:
    raise MissingExtraError(error.name or "limits", "server") from error


class Quotas:
    """Counts what clients use. Windows are minutes of the clock. Use it in one event loop."""

    def __init__(self) -> None:
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._questions = Counter[str]()

    def count_request(self, client: Client) -> None:
        """Count a request. Raises HTTPError (429) beyond the quota."""
        most = client.quota.requests_per_minute
        if most is not None and not self._limiter.hit(RateLimitItemPerMinute(most), "requests", client.name):
            raise self._exceeded(RateLimitItemPerMinute(most), "requests", client, f"{most} requests a minute")

    @contextmanager
    def question(self, client: Client) -> Iterator[Charge]:
        """Count a question while it is answered, and the tokens charged to it.

        Raises HTTPError (429) beyond a quota.
        """
        quota = client.quota
        if quota.questions is not None and self._questions[client.name] >= quota.questions:
            raise _too_many(f"{quota.questions} questions at the same time", 1)
        tokens = None if quota.tokens_per_minute is None else RateLimitItemPerMinute(quota.tokens_per_minute)
        if tokens is not None and not self._limiter.test(tokens, "tokens", client.name):
            raise self._exceeded(tokens, "tokens", client, f"{tokens.amount} tokens a minute")

        def charge(sampled: int) -> None:
            if tokens is not None and sampled:
                self._limiter.hit(tokens, "tokens", client.name, cost=sampled)

        self._questions[client.name] += 1
        try:
            yield charge
        finally:
            self._questions[client.name] -= 1

    def _exceeded(self, item: RateLimitItemPerMinute, kind: str, client: Client, limit: str) -> HTTPError:
        reset = self._limiter.get_window_stats(item, kind, client.name).reset_time
        return _too_many(limit, max(1, math.ceil(reset - time.time())))


def _too_many(limit: str, seconds: int) -> HTTPError:
    message = f"this key allows {limit}; try again in {seconds} s"
    return HTTPError(429, message, code="rate_limit_exceeded", headers={"retry-after": str(seconds)})
