"""What a run may spend, and the purse from which it is leased."""

from dataclasses import dataclass

from branchwise.core.errors import require


@dataclass(frozen=True, slots=True)
class Budget:
    """The most a run may spend over all its questions; None is no limit.

    Tokens and paths are hard: they are leased before they are spent. They pay for branches alone:
    a spent budget refuses every further branch, while scores, checks and prompts go on, so that a
    strategy can finish judging what it has.
    """

    tokens: int | None = None
    """Sampled tokens, those of judges and value prompts included. Scored tokens are counted, not limited."""
    seconds: float | None = None
    """Wall-clock time from the start of the run. Then all work is stopped: scores, checks and prompts at
    once, branches at the model's next step. A backend that doesn't stop is given up after 10 seconds,
    and what it had delivered by then is charged."""
    paths: int | None = None
    """Branches started, those of judges and value prompts included."""

    def __post_init__(self) -> None:
        for name in ("tokens", "seconds", "paths"):
            value = getattr(self, name)
            require(
                value is None or value > 0, f"budget_{name}", f"is {value}", "use a positive number, or leave it out"
            )


UNLIMITED = Budget()


class Purse:
    """Leases tokens and paths, first come first served, so that a result never depends on timing.

    A lease of the full amount is granted whenever that much is left. A smaller one is granted only
    when nothing else is out, since only then is what is left the same in every run.
    """

    def __init__(self, budget: Budget) -> None:
        self._tokens = budget.tokens
        self._paths = budget.paths
        self._out = 0

    def lease(self, most: int) -> int | None:
        """Tokens granted for one branch: `most`, fewer at the end of the budget, 0 when it is spent for
        good; None means to wait for what is out."""
        if self._paths == 0:
            return 0
        granted = most
        if self._tokens is not None and self._tokens < most:
            if self._out:
                return None
            granted = self._tokens
        if granted == 0:
            return 0
        if self._tokens is not None:
            self._tokens -= granted
        if self._paths is not None:
            self._paths -= 1
        self._out += 1
        return granted

    def settle(self, granted: int, spent: int) -> None:
        """Give back what a lease did not need."""
        self._out -= 1
        if self._tokens is not None:
            self._tokens += granted - spent

    @property
    def paths_spent(self) -> bool:
        """Whether it is the paths that ran out."""
        return self._paths == 0
