"""What a drafter is."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from branchwise.backends.engine.scheduler.jobs import LiveBranch
from branchwise.backends.engine.speculation.draft import Draft


class Ask(NamedTuple):
    """What a drafter is asked for."""

    draft: Draft  # to add nodes to
    branch: LiveBranch
    budget: int  # nodes the draft may have in all; of a drafter that computes, tokens of its chain


class Drafter(ABC):
    """Proposes what branches may go on with. Whatever it proposes, their tokens stay the same."""

    name: str

    @abstractmethod
    def propose(self, asks: Sequence[Ask]) -> None:
        """Add nodes to every draft until it has as many as its budget, or there is nothing left to propose."""

    def seconds(self, branches: int) -> float:
        """Time one more token of a chain takes, for so many branches side by side; 0: next to none."""
        return 0.0

    def learn(self, branch: LiveBranch, tokens: Sequence[int]) -> None:  # noqa: B027  # some need not know
        """`branch` has drawn `tokens`; they are in `branch.drawn` already."""

    def leave(self, branch: LiveBranch) -> None:  # noqa: B027
        """`branch` has ended, or gives way."""
