"""Weighted votes: each path counts for as much as the model trusts it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.core.votes import weigh
from branchwise.strategies.actions import Action, Event, Finished, Rooted, Score, Scored, check_paths
from branchwise.strategies.judgment import VERDICTS, expected, judgment
from branchwise.strategies.per_question import PerQuestion
from branchwise.strategies.samples import Samples
from branchwise.strategies.strategy import Decision

Trust = Literal["mean", "min", "product", "p-true"]

_FROM_LOGPROBS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "mean": lambda logprobs: sum(logprobs) / len(logprobs),
    "min": min,
    "product": sum,
}


@dataclass(slots=True)
class TrustedSamples(Samples):
    """One question, and how far the model trusts each path."""

    trust: dict[int, float] = field(default_factory=dict)  # log of it, by branch
    judged: int = 0  # finished branches whose judgment was asked for
    posed: list[Rooted] = field(default_factory=list)  # prompts for judgment that are ready


@dataclass(frozen=True, slots=True)
class WeightedVote(PerQuestion[TrustedSamples]):
    """Draw paths independently, and let each vote with the model's own trust in it.

    Trust is the geometric mean, the minimum or the product of its tokens' probabilities (after Soft Self-Consistency,
    Wang et al. 2024, arXiv 2402.13212, whose mean is the arithmetic one), or P(True): the probability that the model
    calls it correct when asked (Kadavath et al. 2022, arXiv 2207.05221). With a temperature, weights are
    softmax(trust / temperature) over the question's paths (CISC, Taubenfeld et al. 2025, arXiv 2502.06233). Paths
    without a trust do not vote; where none has one, the majority answers, and the result says so.
    """

    name: ClassVar[str] = "weighted-vote"

    paths: int = 20
    """How many paths to draw."""
    trust: Trust = "mean"
    """Where a path's trust comes from; p-true takes one scored prompt for each path. Products are relative to the most
    probable path's."""
    temperature: float | None = None
    """Of the softmax over a question's paths; None: trust is the weight."""
    sampling: Sampling = field(default_factory=Sampling)
    """How to draw them."""

    def __post_init__(self) -> None:
        check_paths(self.paths)
        known = (*_FROM_LOGPROBS, "p-true")
        require(self.trust in known, "trust", f"is {self.trust!r}", f"use one of {', '.join(known)}")
        require(
            self.temperature is None or self.temperature > 0,
            "temperature", f"is {self.temperature}", "use a positive number, or None",
        )  # fmt: skip

    @classmethod
    def cisc(cls, paths: int = 20, sampling: Sampling | None = None) -> "WeightedVote":
        """Confidence-informed self-consistency: softmax over P(True)."""
        return cls(paths, "p-true", 0.1, sampling or Sampling())

    def begin(self, root: Path) -> TrustedSamples:
        return TrustedSamples(root)

    def more(self, samples: TrustedSamples) -> Sequence[Action]:
        if not samples.asked:
            return samples.ask_once(self.paths, self.sampling)
        if self.trust != "p-true":
            return ()
        ready, samples.posed = samples.posed, []
        new, samples.judged = samples.finished[samples.judged :], len(samples.finished)
        return [
            *(Score(posed.path, tuple(VERDICTS), posed.action.tag) for posed in ready),
            *(judgment(b.path, b.question, tag=b.branch) for b in new if b.answer is not None),
        ]

    def take(self, samples: TrustedSamples, event: Event) -> None:
        if isinstance(event, Rooted):
            samples.posed.append(event)
        elif isinstance(event, Scored):
            sure = expected(event.logprobs, list(VERDICTS.values()))
            sure = 0.5 if sure is None else sure
            samples.trust[event.action.tag] = math.log(sure) if sure else -math.inf
        elif isinstance(event, Finished) and not event.aside and self.trust != "p-true":
            logprobs = event.path.sampled_logprobs()
            if logprobs:
                samples.trust[event.branch] = _FROM_LOGPROBS[self.trust](logprobs)

    def decide(self, samples: TrustedSamples) -> Decision:
        answering = [branch for branch in samples.finished if branch.answer is not None]
        known = {branch.branch: samples.trust[branch.branch] for branch in answering if branch.branch in samples.trust}
        if answering and not known:
            return samples.unweighted(f"{self.name}: nothing tells how far to trust a path, so the majority answered")
        weights = self._weights(known)
        return samples.weighted(weigh((b.answer, weights[b.branch]) for b in answering if b.branch in weights))

    def _weights(self, trust: Mapping[int, float]) -> Mapping[int, float]:
        most = max(trust.values(), default=0.0)
        if self.temperature is None:
            scale = most if self.trust == "product" else 0.0  # long paths' products are too small for a float
            return {branch: math.exp(value - scale) for branch, value in trust.items()}
        shares = {b: math.exp((math.exp(value) - math.exp(most)) / self.temperature) for b, value in trust.items()}
        total = sum(shares.values())
        return {branch: share / total for branch, share in shares.items()}
