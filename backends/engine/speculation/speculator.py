"""The speculator: calls the drafters in order and selects, by the draft budget, which drafts a step verifies."""

from collections.abc import Sequence

from branchwise.backends.engine.branch import EngineBranch
from branchwise.backends.engine.speculation.draft import Draft
from branchwise.backends.engine.speculation.draft_budget import DraftBudget
from branchwise.backends.engine.speculation.drafter import Drafter, DraftRequest
from branchwise.backends.engine.speculation.verify import Verification


class Speculator:
    """Drafters and their budget. Owned by the step loop."""

    def __init__(self, drafters: Sequence[Drafter], budget: DraftBudget, *, separate: bool = False) -> None:
        """Use `drafters` in order.

        `separate`: draft for every branch alone, even where several have the same tokens. Under rejection sampling,
        branches that share a sampled draft would no longer be independent.
        """
        self._drafters = drafters
        self._budget = budget
        self.separate = separate

    def propose(self, groups: Sequence[Sequence[EngineBranch]]) -> list[Draft]:
        """Return a draft for each group of branches; the branches of a group have the same tokens."""
        if not groups:
            return []
        budget = self._budget.nodes(len(groups))
        drafts = [Draft() for _ in groups]
        for drafter in self._drafters if budget else ():
            open_ = [(d, branches[0]) for d, branches in zip(drafts, groups, strict=True) if len(d) < budget]
            if open_:
                most = min(budget, self._budget.chain_length(drafter.name, drafter.seconds, len(open_)))
                if most:
                    drafter.propose([DraftRequest(draft, branch, most) for draft, branch in open_])
        return self._budget.select(drafts, [len(branches) for branches in groups])

    def observe(self, verified: Verification, count: int) -> None:
        """Learn from a verified draft, of whose tokens the branch keeps the first `count`."""
        self._budget.record(verified.draft, verified.accepted)
        for drafter in self._drafters:
            drafter.observe(verified.branch, verified.tokens[:count])

    def release(self, branch: EngineBranch) -> None:
        """Forget a branch that has ended or was preempted."""
        for drafter in self._drafters:
            drafter.release(branch)
