"""Vote counts, and the confidence in their leader."""

from collections.abc import Iterable, Mapping
from math import prod

from branchwise.core.answer import Answer

_QUADRATURE_NODES = 64  # Gauss-Legendre; adaptive quadrature agrees to 1e-13 and takes 50 times as long


def count(answers: Iterable[Answer | None]) -> dict[Answer, float]:
    """Return votes per answer, most first, ties in order of first appearance. None is not counted."""
    return weigh((answer, 1.0) for answer in answers)


def weigh(votes: Iterable[tuple[Answer | None, float]]) -> dict[Answer, float]:
    """Return summed weights per answer, largest first, ties in order of first appearance. None is not counted."""
    weights: dict[Answer, float] = {}
    for answer, weight in votes:
        if answer is not None:
            weights[answer] = weights.get(answer, 0.0) + weight
    return dict(sorted(weights.items(), key=lambda item: -item[1]))


def leader(votes: Mapping[Answer, float]) -> Answer | None:
    """Return the answer with most votes, on a tie the one that appeared first; None without votes."""
    return max(votes, key=lambda answer: votes[answer], default=None)


def confidence(votes: Mapping[Answer, float], answer: Answer | None = None) -> float | None:
    """Return the probability that `answer` (default: the leader) beats the best other one; None without an answer."""
    chosen = leader(votes) if answer is None else answer
    if chosen is None:
        return None
    runner_up = max((weight for other, weight in votes.items() if other != chosen), default=0.0)
    return beta_confidence(votes.get(chosen, 0.0), runner_up)


def runner_up(votes: Mapping[Answer, float]) -> float:
    """Return the votes of the second answer; 0 without one."""
    return sorted(votes.values(), reverse=True)[1] if len(votes) > 1 else 0.0


def beta_confidence(leading: float, runner_up: float) -> float:
    """Return P(Beta(leading + 1, runner_up + 1) > 1/2) = 1 - I_0.5(leading + 1, runner_up + 1).

    The stopping rule of Adaptive-Consistency (Aggarwal et al. 2023, arXiv 2305.11860, section 3).
    """
    # Imported here because scipy.special takes 0.3 s, most of the time that `import branchwise` may take.
    from scipy.special import betaincc

    return float(betaincc(leading + 1.0, runner_up + 1.0, 0.5))


def ratio_confidence(leading: float, second: float) -> float:
    """Return 1 - min(1, posterior / prior) at even shares, with a uniform prior.

    This is the strength with which a prior-posterior-ratio test of the leader against the second answer rejects
    that their shares are equal (Waudby-Smith & Ramdas 2020, arXiv 2006.04347).
    """
    from scipy.stats import beta

    return 1.0 - min(1.0, float(beta.pdf(0.5, leading + 1.0, second + 1.0)))


def dirichlet_confidence(votes: Mapping[Answer, float]) -> float | None:
    """Return P(the leader's share is the largest) under Dirichlet(votes + 1); None without votes.

    The Dirichlet stopping rule of Adaptive-Consistency. With a single answer, an unseen second one is added.
    Shares are Gamma variables divided by their sum, so the probability is an integral over the leader's variable:
    its density times the distribution functions of the others.
    """
    from scipy.integrate import fixed_quad
    from scipy.special import gammainc, gammaincinv
    from scipy.stats import gamma

    counts = sorted(votes.values(), reverse=True)
    if not counts:
        return None
    leading, others = counts[0] + 1.0, [weight + 1.0 for weight in counts[1:] or [0.0]]

    low, high = (float(gammaincinv(leading, tail)) for tail in (1e-9, 1 - 1e-9))
    total, _ = fixed_quad(
        lambda shares: prod((gammainc(other, shares) for other in others), start=gamma.pdf(shares, leading)),
        low,
        high,
        n=_QUADRATURE_NODES,
    )
    return min(1.0, float(total))


def final_confidence(leading: float, second: float, remaining: int) -> float:
    """Return the probability that the leader still leads after `remaining` more votes, each for one of the two.

    The leader's part of these votes is Beta-binomial under the posterior Beta(leading + 1, second + 1). A tie at the
    end counts as leading, although the other answer wins it if it appeared first. The result is 1 without remaining
    votes and approaches `beta_confidence` as their number grows.
    """
    from scipy.stats import betabinom

    if remaining <= 0 or leading - second >= remaining:
        return 1.0
    needed = -(-(remaining - (leading - second)) // 2)  # fewest votes that keep the leader from falling behind
    return float(betabinom.sf(needed - 1, remaining, leading + 1.0, second + 1.0))
