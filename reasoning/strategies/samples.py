"""What a strategy knows of one question."""

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
    """The branches of one question, in issue order."""

    root: Path
    asked: int = 0  # branches asked for
    settled: int = 0  # branches that finished, failed or were cancelled
    finished: list[Finished] = field(default_factory=list)

    @property
    def waiting(self) -> bool:
        """Whether branches are under way."""
        return self.settled < self.asked

    @property
    def answers(self) -> list[Answer | None]:
        return [branch.answer for branch in self.finished]

    def majority(self) -> Decision:
        """Each answer one vote."""
        votes = count(self.answers)
        return Decision(leader(votes), confidence(votes), votes)

    def weighted(self, votes: Mapping[Answer, float]) -> Decision:
        """The answer with most weight. How sure that is, plain votes say: weights are no counts."""
        answer, plain = leader(votes), count(self.answers)
        sure = None if answer is None else confidence(plain, answer)
        return Decision(answer, sure, votes, {"plain": Tally(plain, confidence(plain))})

    def unweighted(self, why: str) -> Decision:
        """Each answer one vote, for want of weights."""
        return replace(self.majority(), degraded=(why,))

    def ask_once(self, paths: int, sampling: Sampling) -> Sequence[Action]:
        """`paths` branches from the prompt, the first time it is called."""
        return () if self.asked else self.draw(paths, sampling)

    def draw(self, paths: int, sampling: Sampling, watch_every: int | None = None) -> Sequence[Action]:
        """`paths` more branches from the prompt."""
        self.asked += paths
        return (Extend(self.root, paths, sampling, watch_every),)
