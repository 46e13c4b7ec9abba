"""DeepConf, offline: keep the paths the model was surest of, and weigh their votes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from branchwise.core.answer import Answer
from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.core.votes import weigh
from branchwise.strategies.actions import Action, Event, Finished, check_paths
from branchwise.strategies.per_question import PerQuestion
from branchwise.strategies.samples import Samples
from branchwise.strategies.strategy import Decision
from branchwise.strategies.voting.trace_confidence import (
    ALTERNATIVES,
    bottom_groups,
    lowest_group,
    tail,
    token_confidences,
)

NO_ALTERNATIVES = "{name}: no path has the alternatives its confidence is measured on, so the majority answered"
MEASURES = {"lowest": lowest_group, "tail": tail, "bottom": bottom_groups}


@dataclass(slots=True)
class MeasuredSamples(Samples):
    """One question, and how sure the model was along each finished path; None where nothing tells."""

    sure: list[float | None] = field(default_factory=list)

    @property
    def unmeasured(self) -> bool:
        """Whether there are paths, but nothing to measure on any."""
        return bool(self.sure) and not any(value is not None for value in self.sure)

    def above(self, bar: float) -> dict[Answer, float]:
        """Weights of the paths at least as sure as `bar`, by answer."""
        voting = zip(self.finished, self.sure, strict=True)
        return weigh((branch.answer, value) for branch, value in voting if value is not None and value >= bar)


def bar_of(sure: Iterable[float | None], keep: float) -> float:
    """What the surest share `keep` of the measured is at least; minus infinity where nothing was measured."""
    ordered = sorted((value for value in sure if value is not None), reverse=True)
    return ordered[max(1, round(keep * len(ordered))) - 1] if ordered else float("-inf")


@dataclass(frozen=True, slots=True)
class DeepConf(PerQuestion[MeasuredSamples]):
    """Draw paths, keep the surest, and let each vote with its confidence (Fu et al. 2025, arXiv 2508.15260).

    Needs a backend that reports alternatives with each token; without them the majority answers, and the result says
    so.
    """

    name: ClassVar[str] = "deepconf"

    paths: int = 40
    """How many paths to draw."""
    keep: float = 0.9
    """Share of the paths that vote, the surest ones; the paper tries 0.9 and 0.1."""
    measure: Literal["lowest", "tail", "bottom"] = "lowest"
    """A path's confidence: of its least sure group, of its last one, or the mean of its least sure tenth."""
    group: int = 48
    """Tokens of a group. The paper's 2,048 is for long reasoning; a grade-school solution has 100 to 300 tokens."""
    sampling: Sampling = field(default_factory=Sampling)
    """How to draw them."""

    def __post_init__(self) -> None:
        check_paths(self.paths)
        require(0 < self.keep <= 1, "keep", f"is {self.keep}", "use a share above 0, at most 1")
        require(self.measure in MEASURES, "measure", f"is {self.measure!r}", f"use one of {', '.join(MEASURES)}")
        require(self.group >= 1, "group", f"is {self.group}", "use at least 1 token")

    def begin(self, root: Path) -> MeasuredSamples:
        return MeasuredSamples(root)

    def more(self, samples: MeasuredSamples) -> Sequence[Action]:
        return samples.ask_once(self.paths, with_alternatives(self.sampling))

    def take(self, samples: MeasuredSamples, event: Event) -> None:
        if isinstance(event, Finished) and not event.aside:
            tokens = token_confidences(event.path)
            samples.sure.append(None if tokens is None else MEASURES[self.measure](tokens, self.group))

    def decide(self, samples: MeasuredSamples) -> Decision:
        if samples.unmeasured:
            return samples.unweighted(NO_ALTERNATIVES.format(name=self.name))
        both = zip(samples.finished, samples.sure, strict=True)
        answering = [sure for branch, sure in both if branch.answer is not None]
        return samples.weighted(samples.above(bar_of(answering, self.keep)))


def with_alternatives(sampling: Sampling) -> Sampling:
    """The sampling with the alternatives that confidence is measured on."""
    return replace(sampling, logprobs=max(sampling.logprobs, ALTERNATIVES))
