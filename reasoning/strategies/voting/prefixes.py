"""Branches that continue prefixes of earlier paths: the state of the two path-consistency strategies."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from branchwise.core.answer import Answer
from branchwise.core.errors import ContinuationError
from branchwise.core.keys import choose
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.core.votes import confidence, count, leader
from branchwise.strategies.actions import Action, Event, Extend, Failed, Finished
from branchwise.strategies.samples import Samples
from branchwise.strategies.strategy import Decision, Tally


@dataclass(slots=True)
class PrefixSamples(Samples):
    """The branches of one question, and the prefixes that the next window continues."""

    level: int = 0
    """Steps of the prefixes; 0 is the bare prompt."""
    prefixes: list[Path] = field(default_factory=list)
    stopped: bool = False
    """True once the answer is final, before all paths are sampled."""
    decided_at: int = 0
    """Value of `ended` at the last decision on the level."""

    prompt_only: bool = False
    """True once the backend has stopped continuing paths: every further branch starts at the prompt."""

    def observe_failure(self, event: Event) -> None:
        """Go back to the prompt if the backend has stopped continuing paths; only the branches under way are lost."""
        if isinstance(event, Failed) and isinstance(event.error, ContinuationError):
            self.prompt_only, self.level, self.prefixes = True, 0, [self.root]

    def root_branches(self) -> list[Finished]:
        """Return the branches that continue the bare prompt: independent samples of the model."""
        return [branch for branch in self.finished if branch.action.path is self.root]

    def root_votes(self) -> Mapping[Answer, float]:
        """Return the votes of the branches from the bare prompt."""
        return count(branch.answer for branch in self.root_branches())

    def stopping_votes(self) -> Mapping[Answer, float]:
        """Return the votes that may end the question: `root_votes`, or none if another answer leads overall."""
        votes = self.root_votes()
        return votes if leader(votes) == leader(count(self.answers)) else {}

    def extend(self, branches: Iterable[int], label: str, root_share: float, sampling: Sampling) -> Sequence[Action]:
        """Return requests for the question's branches of these numbers, from the prompt or from a random prefix.

        `label` separates the random choices of one strategy from another's.
        """
        origins = (self._origin(branch, label, root_share) for branch in branches)
        return [Extend(path, len(list(same)), sampling) for path, same in groupby(origins)]

    def _origin(self, branch: int, label: str, root_share: float) -> Path:
        """Return the path a branch continues: the prompt for a share of the branches, else a prefix."""
        if int((branch + 1) * root_share) > int(branch * root_share):
            return self.root
        return self.prefixes[choose(self.root.key, label, branch, len(self.prefixes))]

    def update_level(self, threshold: float, max_level: int, step_back: bool) -> None:
        """Lengthen the prefixes by a step if the leader's confidence reaches the threshold, else shorten them."""
        votes = count(self.answers)
        top = leader(votes)
        if top is None or self.prompt_only:
            return
        confident = (confidence(votes) or 0.0) >= threshold
        if confident and self.level < max_level:
            longer = self._prefixes_of(top, self.level + 1)
            if longer:  # if no path is long enough, the level stays
                self.level += 1
                self.prefixes = longer
        elif not confident and step_back and self.level > 0:
            self.level -= 1
            self.prefixes = self._prefixes_of(top, self.level) or [self.root]

    def _prefixes_of(self, top: Answer, level: int) -> list[Path]:
        """Return the first `level` steps of every longer path that states `top`; equal prefixes are repeated."""
        if level == 0:
            return [self.root]
        return [
            branch.path.cut(branch.steps[level - 1])
            for branch in self.finished
            if branch.answer == top and len(branch.steps) > level
        ]

    def conclude(self, pooled: Mapping[Answer, float], root_share: float, degraded: tuple[str, ...]) -> Decision:
        """Return the leader of the pooled votes.

        Branches that continue a prefix of the leader's paths are biased to its answer. So the confidence is that of
        the branches from the bare prompt, unless `root_share` is 0.
        """
        root_votes = self.root_votes()
        answer = leader(pooled)
        tallies = {"pooled": Tally(pooled, confidence(pooled)), "root": Tally(root_votes, confidence(root_votes))}
        unbiased = root_share > 0 and answer is not None
        leads = confidence(root_votes, answer) if unbiased else confidence(pooled)
        return Decision(answer, leads, pooled, tallies, degraded)

    def uncut_notes(self, name: str) -> tuple[str, ...]:
        """Return a note if the backend continues no paths: they have no steps, so the level stays 0."""
        if not any(branch.path.text and not branch.path.ends for branch in self.finished):
            return ()
        return (f"{name}: paths can't be cut, so every path was sampled from the prompt",)
