"""DeepConf offline: keep the paths with the highest trace confidence and weight their votes by it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from branchwise.core.answer import Answer
from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.core.votes import weigh
from branchwise.strategies.actions import DEFAULT_PATHS, Action, Event, Finished, check_paths
from branchwise.strategies.per_question import PerQuestion
from branchwise.strategies.samples import Samples
from branchwise.strategies.strategy import Decision
from branchwise.strategies.voting.trace_confidence import (
    ALTERNATIVES,
    bottom_groups,
    last_group,
    lowest_group,
    token_confidences,
)

NO_CONFIDENCE = "{name}: no path has the top log-probabilities that confidence needs, so the majority answered"
MEASURES = {"lowest": lowest_group, "tail": last_group, "bottom": bottom_groups}


@dataclass(slots=True)
class ConfidenceSamples(Samples):
    """The branches of one question and their trace confidences."""

    confidences: list[float | None] = field(default_factory=list)
    """One value a finished branch; None if the backend reported no top log-probabilities."""

    @property
    def unmeasured(self) -> bool:
        """Return True if there are finished branches and none has a confidence."""
        return bool(self.confidences) and not any(value is not None for value in self.confidences)

    def votes_above(self, threshold: float) -> dict[Answer, float]:
        """Return the summed confidence of the paths at or above `threshold`, by answer."""
        pairs = zip(self.finished, self.confidences, strict=True)
        return weigh((branch.answer, value) for branch, value in pairs if value is not None and value >= threshold)


def confidence_threshold(confidences: Iterable[float | None], keep: float) -> float:
    """Return the lowest confidence in the most confident share `keep`; minus infinity if there is no confidence."""
    ordered = sorted((value for value in confidences if value is not None), reverse=True)
    return ordered[max(1, round(keep * len(ordered))) - 1] if ordered else float("-inf")


@dataclass(frozen=True, slots=True)
class DeepConf(PerQuestion[ConfidenceSamples]):
    """Sample paths, keep the most confident, and weight each vote by its confidence (Fu et al. 2025, arXiv 2508.15260).

    It needs a backend that reports top log-probabilities. Without them the majority answers, and the result has a
    note.
    """

    name: ClassVar[str] = "deepconf"

    paths: int = DEFAULT_PATHS
    """Number of paths."""
    keep: float = 0.9
    """Share of the paths that vote, the most confident ones; the paper uses 0.9 and 0.1."""
    measure: Literal["lowest", "tail", "bottom"] = "lowest"
    """Confidence of a path: of its least confident group, of its last group, or the mean of its least confident tenth
    of groups."""
    group: int = 48
    """Tokens per group. The paper's 2,048 is for long reasoning; a grade-school solution has 100 to 300 tokens."""
    sampling: Sampling = field(default_factory=Sampling)
    """Sampling settings of the paths."""

    def __post_init__(self) -> None:
        check_paths(self.paths)
        require(0 < self.keep <= 1, "keep", f"is {self.keep}", "use a share above 0, at most 1")
        require(self.measure in MEASURES, "measure", f"is {self.measure!r}", f"use one of {', '.join(MEASURES)}")
        require(self.group >= 1, "group", f"is {self.group}", "use at least 1 token")

    def initial_state(self, root: Path) -> ConfidenceSamples:
        return ConfidenceSamples(root)

    def next_actions(self, samples: ConfidenceSamples) -> Sequence[Action]:
        return samples.sample_once(self.paths, with_alternatives(self.sampling))

    def observe(self, samples: ConfidenceSamples, event: Event) -> None:
        if isinstance(event, Finished) and not event.aside:
            tokens = token_confidences(event.path)
            samples.confidences.append(None if tokens is None else MEASURES[self.measure](tokens, self.group))

    def decide(self, samples: ConfidenceSamples) -> Decision:
        if samples.unmeasured:
            return samples.unweighted(NO_CONFIDENCE.format(name=self.name))
        pairs = zip(samples.finished, samples.confidences, strict=True)
        answering = [confidence for branch, confidence in pairs if branch.answer is not None]
        return samples.weighted(samples.votes_above(confidence_threshold(answering, self.keep)))


def with_alternatives(sampling: Sampling) -> Sampling:
    """Return `sampling` with the top log-probabilities that confidence needs."""
    return replace(sampling, logprobs=max(sampling.logprobs, ALTERNATIVES))
