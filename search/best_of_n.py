"""Best-of-N: draw paths, keep the one with the best score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from branchwise.actions import Action, Finished, check_paths
from branchwise.answers.answer import Answer
from branchwise.consistency.per_question import PerQuestion
from branchwise.consistency.samples import Samples
from branchwise.path import Path
from branchwise.sampling import Sampling
from branchwise.strategy import Decision, Tally
from branchwise.votes import confidence, count


@dataclass(frozen=True, slots=True)
class BestOfN(PerQuestion[Samples]):
    """Draw paths independently, and answer with the one of highest mean log-probability (nats per token).

    Paths without an answer are not chosen. Where a backend reports no log-probabilities at all, the
    majority answers, and the result says so.
    """

    name: ClassVar[str] = "best-of-n"

    paths: int = 8
    """How many paths to draw."""
    sampling: Sampling = field(default_factory=Sampling)
    """How to draw them."""

    def __post_init__(self) -> None:
        check_paths(self.paths)

    def begin(self, root: Path) -> Samples:
        return Samples(root)

    def more(self, samples: Samples) -> Sequence[Action]:
        return samples.ask_once(self.paths, self.sampling)

    def decide(self, samples: Samples) -> Decision:
        votes, scores = count(samples.answers), _best_scores(samples.finished)
        if votes and not scores:
            note = f"{self.name}: no path has log-probabilities, so the majority answered"
            return samples.unweighted(note)
        answer = max(scores, key=lambda candidate: scores[candidate], default=None)
        sure = None if answer is None else confidence(votes, answer)
        return Decision(answer, sure, votes, {"mean_logprob": Tally(scores, None)})


def _best_scores(finished: Sequence[Finished]) -> Mapping[Answer, float]:
    """The best mean log-probability (nats per token) among each answer's paths."""
    scores: dict[Answer, float] = {}
    for branch in finished:
        logprobs = branch.path.sampled_logprobs()
        if branch.answer is not None and logprobs:
            mean = sum(logprobs) / len(logprobs)
            scores[branch.answer] = max(mean, scores.get(branch.answer, mean))
    return scores
