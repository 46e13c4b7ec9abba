"""DeepConf, online: stop a path as soon as the model is less sure than it was along most paths of the warm-up."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.strategies.actions import Action, Cancel, Event, Failed, Finished, Progress, check_paths
from branchwise.strategies.per_question import PerQuestion
from branchwise.strategies.strategy import Decision
from branchwise.strategies.voting.deepconf import NO_ALTERNATIVES, MeasuredSamples, bar_of, with_alternatives
from branchwise.strategies.voting.trace_confidence import lowest_group, token_confidence, token_confidences

_WATCH = 8  # tokens between looks at a path


@dataclass(slots=True)
class WatchedSamples(MeasuredSamples):
    """One question: the bar its warm-up set, and the paths under way."""

    bar: float | None = None  # the least a path's lowest group may be; None before the warm-up ended
    heard: dict[int, list[float]] = field(default_factory=dict)  # token confidences by branch, the latest group of each
    poor: list[int] = field(default_factory=list)  # branches to stop


@dataclass(frozen=True, slots=True)
class DeepConfOnline(PerQuestion[WatchedSamples]):
    """Draw a warm-up, then more paths, each of which is stopped as soon as a group of its tokens is less sure than the
    bar; the rest vote with their confidence, until one answer has enough of the weight (Fu et al. 2025,
    arXiv 2508.15260).

    Tokens of stopped paths are in the ledger as discarded. Needs a backend that reports alternatives with each token;
    without them all paths are drawn and the majority answers, and the result says so.
    """

    name: ClassVar[str] = "deepconf-online"

    paths: int = 40
    """Most paths to draw, the warm-up among them."""
    warm_up: int = 16
    """Paths that set the bar; they are never stopped."""
    keep: float = 0.9
    """Share of the warm-up that is above the bar; the paper tries 0.9 and 0.1."""
    consensus: float = 0.95
    """Share of the weight at which the leading answer is final."""
    group: int = 48
    """Tokens of a group; see DeepConf."""
    window: int = 4
    """Paths drawn between decisions after the warm-up."""
    sampling: Sampling = field(default_factory=Sampling)
    """How to draw them."""

    def __post_init__(self) -> None:
        check_paths(self.paths)
        require(self.warm_up >= 1, "warm_up", f"is {self.warm_up}", "use at least 1 path")
        require(0 < self.keep <= 1, "keep", f"is {self.keep}", "use a share above 0, at most 1")
        require(0.5 <= self.consensus <= 1, "consensus", f"is {self.consensus}", "use 0.5 to 1")
        require(self.group >= 1, "group", f"is {self.group}", "use at least 1 token")
        require(self.window >= 1, "window", f"is {self.window}", "use at least 1")

    def begin(self, root: Path) -> WatchedSamples:
        return WatchedSamples(root)

    def more(self, samples: WatchedSamples) -> Sequence[Action]:
        if samples.poor:
            stopped, samples.poor = samples.poor, []
            return [Cancel(branch) for branch in stopped]
        sampling = with_alternatives(self.sampling)
        if not samples.asked:
            return samples.draw(min(self.warm_up, self.paths), sampling)
        if samples.waiting:
            return ()
        if samples.bar is None:
            samples.bar = bar_of(samples.sure, self.keep)
        if samples.asked >= self.paths:
            return ()
        votes = samples.above(samples.bar)
        if votes and max(votes.values()) >= self.consensus * sum(votes.values()):
            return ()
        return samples.draw(min(self.window, self.paths - samples.asked), sampling, _WATCH)

    def take(self, samples: WatchedSamples, event: Event) -> None:
        if isinstance(event, Progress) and event.top_logprobs and samples.bar is not None:
            heard = samples.heard.setdefault(event.branch, [])
            heard.extend(map(token_confidence, event.top_logprobs))
            if len(heard) >= self.group and lowest_group(heard, self.group) < samples.bar:
                samples.poor.append(event.branch)
            del heard[: max(0, len(heard) - self.group + 1)]  # later groups do not reach back to these
        elif isinstance(event, Finished) and not event.aside:
            tokens = token_confidences(event.path)
            samples.sure.append(None if tokens is None else lowest_group(tokens, self.group))
        if isinstance(event, Finished | Failed) and event.branch is not None:
            samples.heard.pop(event.branch, None)

    def decide(self, samples: WatchedSamples) -> Decision:
        if samples.unmeasured:
            return samples.unweighted(NO_ALTERNATIVES.format(name=self.name))
        return samples.weighted(samples.above(float("-inf") if samples.bar is None else samples.bar))
