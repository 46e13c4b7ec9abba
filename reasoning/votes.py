"""Counting votes, and how sure a count is."""

from collections.abc import Iterable, Mapping

from branchwise.answers.answer import Answer


def count(answers: Iterable[Answer | None]) -> dict[Answer, float]:
    """Votes by answer, most first, ties in order of first appearance; None never counts."""
    votes: dict[Answer, float] = {}
    for answer in answers:
        if answer is not None:
            votes[answer] = votes.get(answer, 0.0) + 1.0
    return dict(sorted(votes.items(), key=lambda item: -item[1]))


def leader(votes: Mapping[Answer, float]) -> Answer | None:
    """The answer with most votes, the first to appear among equals; None without votes."""
    return max(votes, key=lambda answer: votes[answer], default=None)


def confidence(votes: Mapping[Answer, float], answer: Answer | None = None) -> float | None:
    """Probability that `answer` (default: the leader) beats the best other one; None without an answer."""
    chosen = leader(votes) if answer is None else answer
    if chosen is None:
        return None
    runner_up = max((weight for other, weight in votes.items() if other != chosen), default=0.0)
    return beta_confidence(votes.get(chosen, 0.0), runner_up)


def beta_confidence(leading: float, runner_up: float) -> float:
    """P(Beta(leading + 1, runner_up + 1) > 1/2) = 1 - I_0.5(leading + 1, runner_up + 1).

    The stopping rule of Adaptive-Consistency (Aggarwal et al. 2023, arXiv 2305.11860, section 3).
    """
    # Imported here because scipy.special takes 0.3 s, most of what `import branchwise` may take.
    from scipy.special import betaincc

    return float(betaincc(leading + 1.0, runner_up + 1.0, 0.5))
