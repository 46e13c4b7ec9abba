"""The branches of one question, and the votes over them: the state most strategies keep."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from branchwise.core.answer import Answer
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.core.votes import confidence, count, leader
from branchwise.strategies.actions import Action, Extend, Finished
from branchwise.strategies.strategy import Decision, Tally


@dataclass(slots=True)
class Samples:
    """The branches of one question, in the order in which they were requested."""

    root: Path
    """The question's prompt."""
    requested: int = 0
    """Branches requested so far."""
    ended: int = 0
    """Branches that finished, failed or were cancelled."""
    finished: list[Finished] = field(default_factory=list)

    @property
    def pending(self) -> bool:
        """Return True while requested branches have not ended."""
        return self.ended < self.requested

    @property
    def answers(self) -> list[Answer | None]:
        """Return the answer of every finished branch."""
        return [branch.answer for branch in self.finished]

    def sample(self, paths: int, sampling: Sampling, watch_every: int | None = None) -> Sequence[Action]:
        """Return a request for `paths` more branches from the prompt."""
        self.requested += paths
        return (Extend(self.root, paths, sampling, watch_every),)

    def sample_once(self, paths: int, sampling: Sampling) -> Sequence[Action]:
        """Return a request for `paths` branches from the prompt on the first call, and nothing afterwards."""
        return () if self.requested else self.sample(paths, sampling)

    def majority(self) -> Decision:
        """Return the majority answer, one vote a branch."""
        votes = count(self.answers)
        return Decision(leader(votes), confidence(votes), votes)

    def weighted(self, votes: Mapping[Answer, float]) -> Decision:
        """Return the answer with the largest weight.

        Its confidence comes from the plain votes, because weights are not counts.
        """
        answer, plain = leader(votes), count(self.answers)
        leads = None if answer is None else confidence(plain, answer)
        return Decision(answer, leads, votes, {"plain": Tally(plain, confidence(plain))})

    def unweighted(self, reason: str) -> Decision:
        """Return the majority answer with `reason` as the note on the missing weights."""
        return replace(self.majority(), degraded=(reason,))
