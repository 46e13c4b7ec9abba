"""Samples that continue prefixes of earlier ones: what path-consistency keeps of a question."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from branchwise.core.answer import Answer
from branchwise.core.keys import choose
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.core.votes import confidence, count, leader
from branchwise.strategies.actions import Action, Extend, Finished
from branchwise.strategies.samples import Samples
from branchwise.strategies.strategy import Decision, Tally


@dataclass(slots=True)
class PrefixSamples(Samples):
    """One question: its branches, and the prefixes the next window continues."""

    level: int = 0  # steps of the prefixes; 0 is the bare prompt
    prefixes: list[Path] = field(default_factory=list)
    settled_early: bool = False
    looked_at: int = 0  # branches that had settled when the level was last decided

    def rooted(self) -> list[Finished]:
        """The branches that grew from the bare prompt: independent samples of the model."""
        return [branch for branch in self.finished if branch.action.path is self.root]

    def alone(self) -> Mapping[Answer, float]:
        """Their votes."""
        return count(branch.answer for branch in self.rooted())

    def settling(self) -> Mapping[Answer, float]:
        """Their votes, which may settle the answer; none where another than theirs leads among all branches."""
        votes = self.alone()
        return votes if leader(votes) == leader(count(self.answers)) else {}

    def extend(self, branches: Iterable[int], label: str, root_share: float, sampling: Sampling) -> Sequence[Action]:
        """Grow the question's branches of these numbers, each from the prompt or from a prefix drawn by lot; `label`
        tells one strategy's lots from another's."""
        origins = (self._origin(branch, label, root_share) for branch in branches)
        return [Extend(path, len(list(same)), sampling) for path, same in groupby(origins)]

    def _origin(self, branch: int, label: str, root_share: float) -> Path:
        """Where a branch starts: the prompt in its share of cases, else a prefix."""
        if int((branch + 1) * root_share) > int(branch * root_share):
            return self.root
        return self.prefixes[choose(self.root.key, label, branch, len(self.prefixes))]

    def change_level(self, threshold: float, max_level: int, step_back: bool) -> None:
        """Lengthen the prefixes by a step where the leader's confidence passes the threshold, else shorten them."""
        votes = count(self.answers)
        top = leader(votes)
        if top is None:
            return
        sure = (confidence(votes) or 0.0) >= threshold
        if sure and self.level < max_level:
            longer = self._prefixes_of(top, self.level + 1)
            if longer:  # where no path is long enough, the level stays
                self.level, self.prefixes = self.level + 1, longer
        elif not sure and step_back and self.level > 0:
            self.level -= 1
            self.prefixes = self._prefixes_of(top, self.level) or [self.root]

    def _prefixes_of(self, top: Answer, level: int) -> list[Path]:
        """The first `level` steps of every path that gave `top` and has more; repeats count."""
        if level == 0:
            return [self.root]
        return [
            branch.path.cut(branch.steps[level - 1])
            for branch in self.finished
            if branch.answer == top and len(branch.steps) > level
        ]

    def conclude(self, pooled: Mapping[Answer, float], root_share: float, degraded: tuple[str, ...]) -> Decision:
        """The leader of the pooled votes. Continued prefixes vote for what they were chosen for: only paths from the
        bare prompt, where there are some by design, say how often the model gives an answer by itself."""
        alone = self.alone()
        answer = leader(pooled)
        tallies = {"pooled": Tally(pooled, confidence(pooled)), "root": Tally(alone, confidence(alone))}
        independent = root_share > 0 and answer is not None
        sure = confidence(alone, answer) if independent else confidence(pooled)
        return Decision(answer, sure, pooled, tallies, degraded)

    def uncut(self, name: str) -> tuple[str, ...]:
        """A note where paths have no tokens: they have no steps to continue, and the level stays 0."""
        if not any(branch.path.text and not branch.path.token_ids for branch in self.finished):
            return ()
        return (f"{name}: paths without tokens can't be cut, so every path was drawn from the prompt",)
