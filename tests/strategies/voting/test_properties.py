"""Properties of voting strategies on random answers, against counts and weights computed here."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import branchwise as bw
from branchwise.backends.scripted.backend import Reply
from branchwise.driver import BranchStarted
from branchwise.strategies.strategy import AnyStrategy
from tests.support.vote_scripts import answers_of, backend_for, confident, keys, run

ROOTED = bw.AdaptivePathConsistency(12, max_level=0, ties=0)
PLAIN: list[AnyStrategy] = [
    bw.AdaptiveConsistency(10),
    bw.AdaptiveConsistency(10, rule="dirichlet", stop_at=0.8),
    bw.AdaptiveConsistency(10, window=4),
    bw.EarlyStopping(10, window=3),
    bw.BlendASC(10),
    bw.AdaptivePathConsistency(10, ties=0),
    bw.AdaptivePathConsistency(10, ties=0, stop_at=None, max_level=3, threshold=0.6),
    bw.SelfConsistency(10),
    bw.PathConsistency(10),
    bw.PathConsistency.plain(10),
]
ONE_WINDOW: list[AnyStrategy] = [
    bw.WeightedVote(10),
    bw.WeightedVote(10, "min"),
    bw.WeightedVote(10, "product"),
    bw.WeightedVote(10, temperature=0.2),
    bw.DeepConf(10, keep=1.0, group=4),
    bw.DeepConf(10, keep=0.5, group=4),
]
OTHERS: list[AnyStrategy] = [
    bw.WeightedVote.cisc(10),
    bw.PrefixConsistency(5),
    bw.DeepConfOnline(10, warm_up=4, group=4),
    bw.AdaptivePathConsistency(10, stop_at=None),
    bw.AdaptivePathConsistency(10, stop_at=None, max_level=3, threshold=0.6),
    bw.BestOfN(10),
    bw.Greedy(),
]
ANSWERS = st.text("1112233-", min_size=12, max_size=12)


@st.composite
def replies(draw: st.DrawFn) -> list[Reply]:
    """Generate twelve paths of random confidence and length."""
    confidences = st.lists(st.integers(1, 64).map(lambda n: n / 8), min_size=1, max_size=8)
    return [confident(answer, *draw(confidences), words=draw(st.integers(0, 12))) for answer in draw(ANSWERS)]


plain = pytest.mark.parametrize("strategy", PLAIN)
one_window = pytest.mark.parametrize("strategy", ONE_WINDOW)


@plain
@settings(max_examples=15, deadline=None)
@given(ANSWERS)
def test_a_plain_vote_counts_answers_and_the_first_mode_leads(strategy: AnyStrategy, answers: str) -> None:
    result = run(strategy, answers)
    seen = answers_of(result)
    assert seen == answers[: len(seen)]
    assert len(seen) <= 10
    counts = Counter(seen.replace("-", ""))  # in order of first appearance
    assert result.votes == counts
    assert result.answer == max(counts, key=lambda answer: counts[answer], default=None)


@plain
@settings(max_examples=8, deadline=None)
@given(st.randoms(use_true_random=False), ANSWERS)
def test_a_plain_vote_depends_on_the_answers_alone(strategy: AnyStrategy, rng: Random, answers: str) -> None:
    def reply(answer: str) -> Reply:
        return confident(answer, rng.uniform(0.1, 9), words=rng.randrange(9))

    if isinstance(strategy, bw.AdaptivePathConsistency | bw.PathConsistency):  # prefixes depend on the steps of paths
        strategy = replace(strategy, max_level=0)
    first, second = (run(strategy, [reply(answer) for answer in answers]) for _ in range(2))
    assert (first.votes, first.answer, answers_of(first)) == (second.votes, second.answer, answers_of(second))


def answer_of(reply: Reply) -> str:
    return reply.text.rstrip(".").split()[-1]


@pytest.mark.parametrize("strategy", [one for one in [*PLAIN, *ONE_WINDOW, *OTHERS] if one.name != "deepconf-online"])
@settings(max_examples=8, deadline=None)
@given(replies(), st.randoms(use_true_random=False))
def test_paths_with_one_answer_are_interchangeable(strategy: AnyStrategy, paths: list[Reply], rng: Random) -> None:
    """DeepConf online is left out: its threshold depends on the first paths."""
    moved = list(paths)
    for answer in set(map(answer_of, paths)):
        places = [place for place in range(10) if answer_of(paths[place]) == answer]
        for place, other in zip(places, rng.sample(places, len(places)), strict=True):
            moved[place] = paths[other]
    first, second = run(strategy, paths), run(strategy, moved)
    assert len(first.paths) == len(second.paths)
    if isinstance(strategy, bw.Greedy):
        assert first.answer == second.answer
        return
    assert first.votes == pytest.approx(second.votes)
    best = sorted(first.votes.values(), reverse=True)
    if len(best) < 2 or best[0] > best[1] * (1 + 1e-9) or strategy in PLAIN:  # between equal weights, the first leads
        assert first.answer == second.answer


@one_window
@settings(max_examples=8, deadline=None)
@given(replies(), st.randoms(use_true_random=False))
def test_a_weighted_vote_does_not_depend_on_the_order_of_paths(
    strategy: AnyStrategy, paths: list[Reply], rng: Random
) -> None:
    shuffled = paths[:10]
    rng.shuffle(shuffled)
    first, second = run(strategy, paths), run(strategy, shuffled)
    assert first.votes == pytest.approx(second.votes)
    best = sorted(first.votes.values(), reverse=True)
    if len(best) < 2 or best[0] > best[1] * (1 + 1e-9):  # between equals, the first leads
        assert first.answer == second.answer


def lowest(branch: bw.Branch, size: int) -> float:
    """Return the lowest mean confidence of `size` consecutive tokens."""
    sampled = [-value for value in branch.path.sampled_logprobs() or ()]
    size = min(size, len(sampled))
    return min(fmean(sampled[start : start + size]) for start in range(len(sampled) - size + 1))


def mean(branch: bw.Branch) -> float:
    return math.exp(fmean(branch.path.sampled_logprobs() or ()))


def most_confident(branches: Sequence[bw.Branch], keep: float, among: Sequence[bw.Branch]) -> Mapping[int, float]:
    """Return the confidence of every branch at or above the lowest in the most confident share `keep` of `among`."""
    ranked = sorted((lowest(branch, 4) for branch in among), reverse=True)
    kept = ranked[: max(1, round(keep * len(ranked)))]
    threshold = kept[-1] if kept else 0
    return {branch.number: lowest(branch, 4) for branch in branches if lowest(branch, 4) >= threshold - 1e-12}


def confident_or_all(branches: Sequence[bw.Branch]) -> Mapping[int, float]:
    """Return the confidence of the most confident branches; of all if none of these states an answer."""
    kept = most_confident(branches, 0.5, branches[:4])
    if any(branch.answer is not None and branch.number in kept for branch in branches):
        return kept
    return {branch.number: lowest(branch, 4) for branch in branches}


Weights = Callable[[Sequence[bw.Branch]], Mapping[int, float]]


def softmax(branches: Sequence[bw.Branch]) -> Mapping[int, float]:
    powers = {b.number: math.exp(mean(b) / 0.2) for b in branches if b.answer}
    return {number: power / sum(powers.values()) for number, power in powers.items()}


def products(branches: Sequence[bw.Branch]) -> Mapping[int, float]:
    """Return products of probabilities relative to the largest one."""
    logs = {b.number: sum(b.path.sampled_logprobs() or ()) for b in branches if b.answer}
    return {number: math.exp(value - max(logs.values())) for number, value in logs.items()}


@pytest.mark.parametrize(
    ("strategy", "weights"),
    [
        (bw.WeightedVote(10), lambda bs: {b.number: mean(b) for b in bs}),
        (bw.WeightedVote(10, "min"), lambda bs: {b.number: math.exp(min(b.path.sampled_logprobs())) for b in bs}),
        (bw.WeightedVote(10, "product"), products),
        (bw.WeightedVote(10, temperature=0.2), softmax),
        (bw.DeepConf(10, keep=1.0, group=4), lambda bs: most_confident(bs, 1.0, [b for b in bs if b.answer])),
        (bw.DeepConf(10, keep=0.5, group=4), lambda bs: most_confident(bs, 0.5, [b for b in bs if b.answer])),
        (bw.DeepConfOnline(10, warm_up=4, group=4, keep=0.5), confident_or_all),
    ],
)
@settings(max_examples=12, deadline=None)
@given(replies())
def test_a_weighted_vote_is_the_sum_of_its_weights(strategy: AnyStrategy, weights: Weights, paths: list[Reply]) -> None:
    result = run(strategy, paths)
    each, expected = weights(result.paths), Counter[str]()
    for branch in result.paths:
        if branch.answer is not None and branch.number in each:
            expected[branch.answer.value] += each[branch.number]  # type: ignore[assignment]
    assert result.votes == pytest.approx(expected)
    assert sum(result.votes.values()) == pytest.approx(sum(expected.values()))


@pytest.mark.parametrize(
    "strategy",
    [bw.PrefixConsistency(6), replace(ROOTED, stop_at=None, ties=2), bw.PrefixConsistency(3, regrow=3)],
)
@settings(max_examples=15, deadline=None)
@given(ANSWERS)
def test_a_regenerated_group_votes_with_cubed_shares(strategy: AnyStrategy, answers: str) -> None:
    result = run(strategy, answers)
    groups: dict[int, list[str | None]] = {}
    for branch in result.paths:
        answer = None if branch.answer is None else branch.answer.value
        groups.setdefault(branch.number if branch.parent is None else branch.parent, []).append(answer)
    votes = Counter[str]()
    for group in groups.values():
        for answer in group:
            if answer is not None:
                votes[answer] += (group.count(answer) / len(group)) ** 3  # type: ignore[assignment]
    assert result.votes == pytest.approx(votes)


@settings(max_examples=12, deadline=None)
@given(replies())
def test_softmax_weights_sum_to_one(paths: list[Reply]) -> None:
    result = run(bw.WeightedVote.cisc(10), paths)
    answered = any(branch.answer is not None for branch in result.paths)
    assert sum(result.votes.values()) == pytest.approx(1.0 if answered else 0.0)


@pytest.mark.parametrize("max_level", [0, 3])
@settings(max_examples=25, deadline=None)
@given(ANSWERS)
def test_no_answer_gets_more_votes_than_paths(max_level: int, answers: str) -> None:
    result = run(bw.AdaptivePathConsistency(12, stop_at=None, max_level=max_level, threshold=0.6), answers)
    counts = Counter(answers_of(result).replace("-", ""))
    assert all(0 < weight <= counts[answer] + 1e-9 for answer, weight in result.votes.items())
    assert len(result.paths) == 12


@pytest.mark.parametrize("strategy", [*PLAIN, *ONE_WINDOW, *OTHERS])
@settings(max_examples=10, deadline=None)
@given(replies(), st.none() | st.integers(1, 12), st.none() | st.integers(1, 120))
def test_no_budget_is_exceeded(strategy: AnyStrategy, paths: list[Reply], most: int | None, tokens: int | None) -> None:
    seen: list[bw.RunEvent] = []
    budget = bw.Budget(paths=most, tokens=tokens)
    result = bw.solve_sync("q", backend_for(paths), strategy=strategy, budget=budget, observer=seen.append)
    started = sum(isinstance(event, BranchStarted) for event in seen)
    assert started <= (most or 20)  # ten, or twenty with regenerated paths
    assert result.usage.sampled <= (tokens or 10_000)
    assert sum(result.votes.values()) > 0 or result.answer is None


@settings(max_examples=25, deadline=None)
@given(ANSWERS, st.integers(1, 12), st.integers(1, 5))
def test_without_its_parts_adaptive_is_self_consistency(answers: str, paths: int, window: int) -> None:
    bare = bw.AdaptivePathConsistency(paths, window, stop_at=None, max_level=0, ties=0)
    ours, plain = run(bare, answers), run(bw.SelfConsistency(paths), answers)
    assert (ours.answer, ours.votes, ours.confidence) == (plain.answer, plain.votes, plain.confidence)
    assert keys(ours) == keys(plain)


@settings(max_examples=40, deadline=None)
@given(ANSWERS, st.integers(1, 5), st.sampled_from([0.8, 0.9, 0.95]))
def test_the_horizon_never_needs_more_paths(answers: str, window: int, stop_at: float) -> None:
    near = replace(ROOTED, window=window, stop_at=stop_at, stakes=False)
    assert len(run(near, answers).paths) <= len(run(replace(near, horizon=False), answers).paths)


@settings(max_examples=40, deadline=None)
@given(ANSWERS, st.sampled_from([0.8, 0.9, 0.96]), st.booleans())
def test_stakes_never_need_more_paths(answers: str, stop_at: float, horizon: bool) -> None:
    """With a decision after every path. A window that looks further ahead may decide later."""
    weighed = replace(ROOTED, window=1, stop_at=stop_at, horizon=horizon)
    assert len(run(weighed, answers).paths) <= len(run(replace(weighed, stakes=False), answers).paths)


@settings(max_examples=40, deadline=None)
@given(ANSWERS, st.integers(1, 5), st.integers(1, 12))
def test_a_certain_stop_gives_the_majority_of_all_paths(answers: str, window: int, paths: int) -> None:
    """If all paths end in a tie, the answer is one of the tied ones."""
    result = run(replace(ROOTED, paths=paths, window=window, stop_at=1.0), answers)
    counts = {answer: answers[:paths].count(answer) for answer in set(answers[:paths]) - {"-"}}
    assert result.answer in [answer for answer, votes in counts.items() if votes == max(counts.values())] or not counts
    assert answers_of(result) == answers[: len(result.paths)]


@settings(max_examples=40, deadline=None)
@given(ANSWERS, st.integers(1, 6), st.sampled_from([None, 0.8, 0.95]), st.sampled_from([0.6, 0.8]))
def test_a_probe_leaves_paths_and_votes_unchanged(
    answers: Sequence[str], window: int, stop_at: float | None, threshold: float
) -> None:
    strategy = bw.AdaptivePathConsistency(12, window, stop_at=stop_at, threshold=threshold)
    probed, plain = (run(replace(strategy, probe=probe), answers) for probe in (True, False))
    assert keys(probed) == keys(plain)
    assert (probed.votes, probed.confidence) == (plain.votes, plain.confidence)
