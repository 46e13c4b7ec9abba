"""The budget of a run, and the allocator from which the driver leases tokens and paths for branches."""

from dataclasses import dataclass

from branchwise.core.errors import require
from branchwise.core.validation import finite_number, whole_number

_LIMITS = (
    ("tokens", whole_number, "whole number"),
    ("seconds", finite_number, "number"),
    ("paths", whole_number, "whole number"),
)


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of a run over all its questions; None means no limit.

    Tokens and paths are hard limits: they are leased before they are spent. They pay for branches only:
    an exhausted budget refuses further branches, while scores, checks and prompts continue, so that a
    strategy can finish judging the branches it has.
    """

    tokens: int | None = None
    """Sampled tokens, including those of judges and value prompts. Scored tokens are counted, not limited."""
    seconds: float | None = None
    """Wall-clock time from the start of the run. At the limit all work stops: scores, checks and prompts
    immediately, branches at the model's next step. A backend that does not stop is abandoned after 10 seconds,
    and the tokens it delivered until then are charged."""
    paths: int | None = None
    """Branches started, including those of judges and value prompts."""

    def __post_init__(self) -> None:
        for name, check, kind in _LIMITS:
            value = getattr(self, name)
            if value is not None:
                fix = f"use a positive {kind}, or leave it out"
                number = check(f"budget_{name}", value, fix)
                require(number > 0, f"budget_{name}", f"is {value}", fix)
                object.__setattr__(self, name, number)


UNLIMITED = Budget()


class BudgetAllocator:
    """Leases of tokens and paths, first come, first served, so that a result never depends on timing.

    A full lease is granted whenever enough tokens remain. A smaller one is granted only when no other
    lease is outstanding, because only then is the remainder the same in every run.
    """

    def __init__(self, budget: Budget) -> None:
        self._tokens = budget.tokens
        self._paths = budget.paths
        self._outstanding = 0

    def lease(self, max_tokens: int) -> int | None:
        """Return the tokens granted to one branch: at most `max_tokens`, 0 if the budget is exhausted.

        None means that the caller must wait until an outstanding lease is released.
        """
        if self._paths == 0:
            return 0
        granted = max_tokens
        if self._tokens is not None and self._tokens < max_tokens:
            if self._outstanding:
                return None
            granted = self._tokens
        if granted == 0:
            return 0
        if self._tokens is not None:
            self._tokens -= granted
        if self._paths is not None:
            self._paths -= 1
        self._outstanding += 1
        return granted

    def release(self, granted: int, spent: int) -> None:
        """Return the unspent tokens of a lease to the budget."""
        self._outstanding -= 1
        if self._tokens is not None:
            self._tokens += granted - spent

    @property
    def paths_exhausted(self) -> bool:
        """True if no path is left to lease."""
        return self._paths == 0
