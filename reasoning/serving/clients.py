"""The owners of API keys, and their quotas: requests and sampled tokens a minute, questions at the same time."""

from dataclasses import dataclass
from typing import NamedTuple

from branchwise.core.errors import require


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits of what a client may use; None means no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    """Sampled tokens. A run that has begun is not stopped by it; the next one waits for the next minute."""
    questions: int | None = None
    """Questions that are answered or wait at the same time."""

    def __post_init__(self) -> None:
        for name in ("requests_per_minute", "tokens_per_minute", "questions"):
            value = getattr(self, name)
            require(
                value is None or (type(value) is int and value >= 1),
                name,
                f"is {value!r}",
                "use a whole number of at least 1, or leave it out",
            )


class Client(NamedTuple):
    """The owner of an API key."""

    name: str
    quota: Quota = Quota()


ANYONE = Client("anyone")
"""The owner of requests without a key."""
