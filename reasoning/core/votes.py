"""Counting votes, and how sure a count is."""

from collections.abc import Iterable, Mapping
from math import prod

from branchwise.core.answer import Answer

_NODES = 64  # of the Gauss-Legendre rule: an adaptive rule agrees to 1e-13 and takes 50 times as long


def count(answers: Iterable[Answer | None]) -> dict[Answer, float]:
    """Votes by answer, most first, ties in order of first appearance; None never counts."""
    return weigh((answer, 1.0) for answer in answers)


def weigh(votes: Iterable[tuple[Answer | None, float]]) -> dict[Answer, float]:
    """Summed weights by answer, most first, ties in order of first appearance; None never counts."""
    weights: dict[Answer, float] = {}
    for answer, weight in votes:
        if answer is not None:
            weights[answer] = weights.get(answer, 0.0) + weight
    return dict(sorted(weights.items(), key=lambda item: -item[1]))


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


def runner_up(votes: Mapping[Answer, float]) -> float:
    """The votes of the second answer; 0 without one."""
    return sorted(votes.values(), reverse=True)[1] if len(votes) > 1 else 0.0


def beta_confidence(leading: float, runner_up: float) -> float:
    """P(Beta(leading + 1, runner_up + 1) > 1/2) = 1 - I_0.5(leading + 1, runner_up + 1).

    The stopping rule of Adaptive-Consistency (Aggarwal et al. 2023, arXiv 2305.11860, section 3).
    """
    # Imported here because scipy.special takes 0.3 s, most of what `import branchwise` may take.
    from scipy.special import betaincc

    return float(betaincc(leading + 1.0, runner_up + 1.0, 0.5))


def ratio_confidence(leading: float, second: float) -> float:
    """1 - min(1, posterior / prior) at even shares: how strongly a prior-posterior-ratio test of the leader against the
    second rejects that they are equal (Waudby-Smith & Ramdas 2020, arXiv 2006.04347), with a uniform prior."""
    from scipy.stats import beta

    return 1.0 - min(1.0, float(beta.pdf(0.5, leading + 1.0, second + 1.0)))


def dirichlet_confidence(votes: Mapping[Answer, float]) -> float | None:
    """P(the leader's share is the largest) under Dirichlet(votes + 1) over the answers seen, and one more where only
    one was; None without votes.

    The other stopping rule of Adaptive-Consistency. Shares are Gamma variables divided by their sum, so the
    probability is an integral over the leader's: of its density times the distribution functions of the others.
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
        low, high, n=_NODES,
    )  # fmt: skip
    return min(1.0, float(total))


def final_confidence(leading: float, second: float, left: int) -> float:
    """Probability that the leader still leads after `left` more votes for one of the two.

    Their number for the leader is Beta-binomial under the posterior Beta(leading + 1, second + 1); a tie at the end
    counts as leading, though it would be lost where the other answer came first. Without votes left it is 1, with
    endlessly many it is `beta_confidence`.
    """
    from scipy.stats import betabinom

    if left <= 0 or leading - second >= left:
        return 1.0
    needed = -(-(left - (leading - second)) // 2)  # the fewest of them that keep the leader from falling behind
    return float(betabinom.sf(needed - 1, left, leading + 1.0, second + 1.0))
