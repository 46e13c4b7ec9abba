"""Which drafts a step computes: the drafters in their order, and the gate."""

from collections.abc import Sequence

from branchwise.backends.engine.scheduler.jobs import LiveBranch
from branchwise.backends.engine.speculation.draft import Draft
from branchwise.backends.engine.speculation.draft_budget import Gate
from branchwise.backends.engine.speculation.drafter import Ask, Drafter
from branchwise.backends.engine.speculation.verify import Walk


class Drafting:
    """Owned by the step loop."""

    def __init__(self, drafters: Sequence[Drafter], gate: Gate, *, apart: bool = False) -> None:
        """`apart`: every branch gets drafts of its own, even where several stand at the same place. Rejection sampling
        from one draw for all of them would make them alike."""
        self._drafters, self._gate, self.apart = drafters, gate, apart

    def propose(self, groups: Sequence[Sequence[LiveBranch]]) -> list[Draft]:
        """A draft for each group of branches that stand at the same place."""
        if not groups:
            return []
        budget = self._gate.budget(len(groups))
        drafts = [Draft() for _ in groups]
        for drafter in self._drafters if budget else ():
            short = [(d, branches[0]) for d, branches in zip(drafts, groups, strict=True) if len(d) < budget]
            if short and (most := min(budget, self._gate.chain(drafter.name, drafter.seconds, len(short)))):
                drafter.propose([Ask(draft, branch, most) for draft, branch in short])
        return self._gate.choose(drafts, [len(branches) for branches in groups])

    def learn(self, drew: Walk, taken: int) -> None:
        """A branch has drawn the first `taken` of its choices."""
        self._gate.note(drew.draft, drew.accepted)
        for drafter in self._drafters:
            drafter.learn(drew.branch, [choice.token for choice in drew.choices[:taken]])

    def leave(self, branch: LiveBranch) -> None:
        """A branch has ended, or gives way."""
        for drafter in self._drafters:
            drafter.leave(branch)
