"""Weighted vote: each path votes with the trust the model has in it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.core.votes import weigh
from branchwise.strategies.actions import DEFAULT_PATHS, Action, Event, Finished, Rooted, Score, Scored, check_paths
from branchwise.strategies.per_question import PerQuestion
from branchwise.strategies.samples import Samples
from branchwise.strategies.self_evaluation import VERDICTS, expected_value, judge_prompt
from branchwise.strategies.strategy import Decision

Trust = Literal["mean", "min", "product", "p-true"]

_FROM_LOGPROBS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "mean": lambda logprobs: sum(logprobs) / len(logprobs),
    "min": min,
    "product": sum,
}
"""Log of the trust from the log-probabilities of a path's tokens."""


@dataclass(slots=True)
class TrustSamples(Samples):
    """The branches of one question and the model's trust in each."""

    log_trust: dict[int, float] = field(default_factory=dict)
    """Log of the trust, by branch."""
    judged: int = 0
    """Finished branches for which a judge prompt was requested, if they state an answer."""
    judge_prompts: list[Rooted] = field(default_factory=list)
    """Judge prompts that are ready to be scored."""


@dataclass(frozen=True, slots=True)
class WeightedVote(PerQuestion[TrustSamples]):
    """Sample paths independently, and weight each vote by the model's own trust in the path.

    Trust is the geometric mean, the minimum or the product of the path's token probabilities (after Soft
    Self-Consistency, Wang et al. 2024, arXiv 2402.13212, which uses the arithmetic mean). Or it is P(True): the
    probability that the model calls the path correct (Kadavath et al. 2022, arXiv 2207.05221). With a temperature,
    weights are softmax(trust / temperature) over the question's paths (CISC, Taubenfeld et al. 2025, arXiv
    2502.06233). Paths without a trust do not vote. If no path has one, the majority answers, and the result has a note.
    """

    name: ClassVar[str] = "weighted-vote"

    paths: int = DEFAULT_PATHS
    """Number of paths."""
    trust: Trust = "mean"
    """Source of a path's trust. p-true scores one more prompt for each path. Products are relative to the most probable
    path's."""
    temperature: float | None = None
    """Temperature of the softmax over a question's paths; None uses the trust as the weight."""
    sampling: Sampling = field(default_factory=Sampling)
    """Sampling settings of the paths."""

    def __post_init__(self) -> None:
        check_paths(self.paths)
        known = (*_FROM_LOGPROBS, "p-true")
        require(self.trust in known, "trust", f"is {self.trust!r}", f"use one of {', '.join(known)}")
        positive = self.temperature is None or self.temperature > 0
        require(positive, "temperature", f"is {self.temperature}", "use a positive number, or None")

    @classmethod
    def cisc(cls, paths: int = DEFAULT_PATHS, sampling: Sampling | None = None) -> "WeightedVote":
        """Return confidence-informed self-consistency: weights are a softmax over P(True) at temperature 0.1."""
        return cls(paths, "p-true", 0.1, sampling or Sampling())

    def initial_state(self, root: Path) -> TrustSamples:
        return TrustSamples(root)

    def next_actions(self, samples: TrustSamples) -> Sequence[Action]:
        if not samples.requested:
            return samples.sample_once(self.paths, self.sampling)
        if self.trust != "p-true":
            return ()
        prompts, samples.judge_prompts = samples.judge_prompts, []
        new, samples.judged = samples.finished[samples.judged :], len(samples.finished)
        return [
            *(Score(prompt.path, tuple(VERDICTS), prompt.action.tag) for prompt in prompts),
            *(judge_prompt(b.path, b.question, tag=b.branch) for b in new if b.answer is not None),
        ]

    def observe(self, samples: TrustSamples, event: Event) -> None:
        if isinstance(event, Rooted):
            samples.judge_prompts.append(event)
        elif isinstance(event, Scored):
            trust = expected_value(event.logprobs, list(VERDICTS.values()))
            trust = 0.5 if trust is None else trust
            samples.log_trust[event.action.tag] = math.log(trust) if trust else -math.inf
        elif isinstance(event, Finished) and not event.aside and self.trust != "p-true":
            logprobs = event.path.sampled_logprobs()
            if logprobs:
                samples.log_trust[event.branch] = _FROM_LOGPROBS[self.trust](logprobs)

    def decide(self, samples: TrustSamples) -> Decision:
        answering = [branch for branch in samples.finished if branch.answer is not None]
        known = {b.branch: samples.log_trust[b.branch] for b in answering if b.branch in samples.log_trust}
        if answering and not known:
            return samples.unweighted(f"{self.name}: the trust in every path is unknown, so the majority answered")
        weights = self._weights(known)
        return samples.weighted(weigh((b.answer, weights[b.branch]) for b in answering if b.branch in weights))

    def _weights(self, log_trust: Mapping[int, float]) -> Mapping[int, float]:
        """Return the weight of each branch."""
        largest = max(log_trust.values(), default=0.0)
        if self.temperature is None:
            scale = largest if self.trust == "product" else 0.0  # the product of a long path underflows a float
            return {branch: math.exp(value - scale) for branch, value in log_trust.items()}
        shares = {
            branch: math.exp((math.exp(value) - math.exp(largest)) / self.temperature)
            for branch, value in log_trust.items()
        }
        total = sum(shares.values())
        return {branch: share / total for branch, share in shares.items()}
