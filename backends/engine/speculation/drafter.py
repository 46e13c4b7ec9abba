"""The interface of drafters. The speculator calls them in order, in the engine's thread."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from branchwise.backends.engine.branch import EngineBranch
from branchwise.backends.engine.speculation.draft import Draft


class DraftRequest(NamedTuple):
    """A draft to extend for one branch."""

    draft: Draft
    branch: EngineBranch
    budget: int  # most nodes of the draft; for a drafter that runs a model, most tokens of its chain


class Drafter(ABC):
    """Proposes continuations of branches. The sampled tokens do not depend on them."""

    name: str

    @abstractmethod
    def propose(self, requests: Sequence[DraftRequest]) -> None:
        """Add nodes to every draft, up to its budget."""

    def seconds(self, branches: int) -> float:
        """Return the cost of one more token of a chain for each of `branches` branches; 0 for a lookup."""
        return 0.0

    def observe(self, branch: EngineBranch, tokens: Sequence[int]) -> None:  # noqa: B027  # optional
        """Learn the tokens that `branch` sampled last; `branch.sampled` already ends with them."""

    def release(self, branch: EngineBranch) -> None:  # noqa: B027  # optional
        """Forget a branch that has ended or was preempted."""
