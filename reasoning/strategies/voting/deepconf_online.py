"""DeepConf online: cancel a path once a group of its tokens falls below the confidence of most warm-up paths."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.strategies.actions import DEFAULT_PATHS, Action, Cancel, Event, Failed, Finished, Progress, check_paths
from branchwise.strategies.per_question import PerQuestion
from branchwise.strategies.strategy import Decision
from branchwise.strategies.voting.deepconf import (
    NO_CONFIDENCE,
    ConfidenceSamples,
    confidence_threshold,
    with_alternatives,
)
from branchwise.strategies.voting.trace_confidence import lowest_group, token_confidence, token_confidences

_WATCH_EVERY = 8
"""Tokens between two checks of a path."""


@dataclass(slots=True)
class OnlineSamples(ConfidenceSamples):
    """The branches of one question, the threshold of its warm-up, and the running paths."""

    threshold: float | None = None
    """Lowest valid confidence of a group; None until the warm-up has ended."""
    recent: dict[int, list[float]] = field(default_factory=dict)
    """The latest token confidences of each running branch, at most one group."""
    below: list[int] = field(default_factory=list)
    """Branches to cancel."""


@dataclass(frozen=True, slots=True)
class DeepConfOnline(PerQuestion[OnlineSamples]):
    """Sample a warm-up, then more paths until one answer has enough of the weight (Fu et al. 2025, arXiv 2508.15260).

    A path after the warm-up is cancelled as soon as the confidence of a group of its tokens is below the threshold.
    The other paths vote with their confidence. Tokens of cancelled paths count as discarded. It needs a backend that
    reports top log-probabilities. Without them all paths are sampled, the majority answers, and the result has a note.
    """

    name: ClassVar[str] = "deepconf-online"

    paths: int = DEFAULT_PATHS
    """Maximum number of paths, including the warm-up."""
    warm_up: int = DEFAULT_PATHS // 2
    """Paths that set the threshold; they are never cancelled."""
    keep: float = 0.9
    """Share of the warm-up paths that is at or above the threshold; the paper uses 0.9 and 0.1."""
    consensus: float = 0.95
    """Share of the weight at which the leading answer is final."""
    group: int = 48
    """Tokens per group; see DeepConf."""
    window: int = 4
    """Paths sampled between two decisions after the warm-up."""
    sampling: Sampling = field(default_factory=Sampling)
    """Sampling settings of the paths."""

    def __post_init__(self) -> None:
        check_paths(self.paths)
        require(self.warm_up >= 1, "warm_up", f"is {self.warm_up}", "use at least 1 path")
        require(0 < self.keep <= 1, "keep", f"is {self.keep}", "use a share above 0, at most 1")
        require(0.5 <= self.consensus <= 1, "consensus", f"is {self.consensus}", "use 0.5 to 1")
        require(self.group >= 1, "group", f"is {self.group}", "use at least 1 token")
        require(self.window >= 1, "window", f"is {self.window}", "use at least 1")

    def initial_state(self, root: Path) -> OnlineSamples:
        return OnlineSamples(root)

    def next_actions(self, samples: OnlineSamples) -> Sequence[Action]:
        if samples.below:
            cancelled, samples.below = samples.below, []
            return [Cancel(branch) for branch in cancelled]
        sampling = with_alternatives(self.sampling)
        if not samples.requested:
            return samples.sample(min(self.warm_up, self.paths), sampling)
        if samples.pending:
            return ()
        if samples.threshold is None:
            samples.threshold = confidence_threshold(samples.confidences, self.keep)
        if samples.requested >= self.paths:
            return ()
        votes = samples.votes_above(samples.threshold)
        if votes and max(votes.values()) >= self.consensus * sum(votes.values()):
            return ()
        return samples.sample(min(self.window, self.paths - samples.requested), sampling, _WATCH_EVERY)

    def observe(self, samples: OnlineSamples, event: Event) -> None:
        if isinstance(event, Progress) and event.top_logprobs and samples.threshold is not None:
            self._check_groups(samples, event, samples.threshold)
        elif isinstance(event, Finished) and not event.aside:
            tokens = token_confidences(event.path)
            samples.confidences.append(None if tokens is None else lowest_group(tokens, self.group))
        if isinstance(event, Finished | Failed) and event.branch is not None:
            samples.recent.pop(event.branch, None)

    def _check_groups(self, samples: OnlineSamples, event: Progress, threshold: float) -> None:
        """Mark the branch for cancellation if a group that ends in its new tokens is below the threshold."""
        recent = samples.recent.setdefault(event.branch, [])
        recent.extend(map(token_confidence, event.top_logprobs))
        if len(recent) >= self.group and lowest_group(recent, self.group) < threshold:
            samples.below.append(event.branch)
        del recent[: max(0, len(recent) - self.group + 1)]  # no later group reaches back to these tokens

    def decide(self, samples: OnlineSamples) -> Decision:
        if samples.unmeasured:
            return samples.unweighted(NO_CONFIDENCE.format(name=self.name))
        every = samples.votes_above(float("-inf"))
        above = every if samples.threshold is None else samples.votes_above(samples.threshold)
        return samples.weighted(above or every)  # an answer below the threshold is better than none
