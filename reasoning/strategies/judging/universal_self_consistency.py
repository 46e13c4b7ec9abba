"""Universal Self-Consistency: the model selects the reply that most of the others agree with."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from branchwise.core.answer import Answer
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.core.votes import leader, weigh
from branchwise.strategies.actions import DEFAULT_PATHS, check_paths
from branchwise.strategies.judging.calls import JudgedSamples, JudgingStrategy, check_votes
from branchwise.strategies.judging.prompts import CHOOSE, choice_of, choose_prompt, reply_of
from branchwise.strategies.strategy import Decision


@dataclass(slots=True)
class ChosenSamples(JudgedSamples):
    """The branches of one question, and the number of them that the judge's prompt shows."""

    shown: int = 0


@dataclass(frozen=True, slots=True)
class UniversalSelfConsistency(JudgingStrategy[ChosenSamples]):
    """Sample paths, show them to the model in one prompt, and take the one it finds most consistent with the others.

    Chen et al. 2023, arXiv 2311.17311. Replies need no common form: use it with the task `free-form`. If the paths are
    too long for the model's context, half as many are shown.
    """

    name: ClassVar[str] = "universal-self-consistency"

    paths: int = DEFAULT_PATHS
    """Number of paths."""
    votes: int = 1
    """Number of selections that are sampled; the path with most of them wins."""
    sampling: Sampling = field(default_factory=Sampling)
    """Sampling settings of the paths and of the selections."""

    def __post_init__(self) -> None:
        check_paths(self.paths)
        check_votes(self.votes)

    def initial_state(self, root: Path) -> ChosenSamples:
        return ChosenSamples(root)

    def judge(self, samples: ChosenSamples) -> None:
        if not samples.calls:
            samples.shown = len(samples.candidates)
        elif samples.calls[-1].too_long:
            samples.shown //= 2
        else:
            return
        if samples.shown > 1:
            replies = [reply_of(branch.path) for branch in samples.candidates[: samples.shown]]
            samples.call(choose_prompt(samples.root, replies), CHOOSE, self.votes)

    def is_valid(self, samples: ChosenSamples, answer: Answer) -> bool:
        return choice_of(answer, samples.shown) is not None

    def decide(self, samples: ChosenSamples) -> Decision:
        candidates = samples.candidates
        replies = samples.calls[-1].answers if samples.calls else []
        choices = [choice for answer in replies if (choice := choice_of(answer, samples.shown)) is not None]
        if not choices:
            return self.noted(samples, samples.majority())
        votes = weigh((candidates[choice].answer, 1.0) for choice in choices)
        decision = self.judged(samples, leader(votes), votes)
        if samples.shown == len(candidates):
            return decision
        note = f"{self.name}: the model's context holds {samples.shown} of the {len(candidates)} replies"
        return replace(decision, degraded=(note, *decision.degraded))
