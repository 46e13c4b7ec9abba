"""Drawn tokens against exact probabilities.

Every distribution test is a chi-square test of fixed keys at ODDS: over the choice of keys, each would raise a
false alarm with those odds, all of them together with less than 1e-6.
"""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from scipy.stats import chisquare, kstest
from torch import Tensor

from branchwise.backends.engine.sampling import noise, sampler
from branchwise.backends.engine.sampling.sampler import CANDIDATES, Draw, draw
from branchwise.core.keys import child_key
from branchwise.core.sampling import Sampling

pytestmark = pytest.mark.usefixtures("one_thread")

ODDS = 2e-8  # of a false alarm in one test; fewer than 50 tests
BATCH = 1000  # rows drawn at once
COUNTS = {"small": 12_000, "flat": 4000, "sloped": 4000}  # draws, by kind of logits


def logits_of(kind: str) -> Tensor:
    """[vocabulary] float64 logits."""
    generator = torch.Generator().manual_seed(5)
    if kind == "small":
        return 1.5 * torch.randn(40, generator=generator, dtype=torch.float64)
    if kind == "flat":  # half of the weight lies outside the candidates
        return 0.1 * torch.randn(2 * CANDIDATES, generator=generator, dtype=torch.float64)
    return torch.linspace(0.0, -4.0, 2 * CANDIDATES, dtype=torch.float64)[
        torch.randperm(2 * CANDIDATES, generator=generator)
    ]  # sloped: a tenth of the weight lies outside them


def exact(logits: Tensor, sampling: Sampling) -> Tensor:
    """[vocabulary] probabilities after temperature, top-k, top-p and min-p, the slow and obvious way."""
    weights = torch.softmax(logits / sampling.temperature, dim=-1)
    order = sorted(range(len(weights)), key=lambda token: (-weights[token].item(), token))
    kept = order[: sampling.top_k or len(order)]
    total = sum(weights[token].item() for token in kept)
    nucleus: list[int] = []
    reached = 0.0
    for token in kept:
        if reached < sampling.top_p * total:
            nucleus.append(token)
        reached += weights[token].item()
    least = sampling.min_p * weights[order[0]].item()
    final = torch.zeros_like(weights)
    for token in nucleus:
        if weights[token].item() >= least:
            final[token] = weights[token]
    return final / final.sum()


def keys_apart(count: int) -> list[Draw]:
    """One place, many branches."""
    return [Draw(Sampling(), child_key(77, i), 12, i) for i in range(count)]


def positions_apart(count: int) -> list[Draw]:
    """One branch, many places."""
    return [Draw(Sampling(), child_key(78, 0), i, i) for i in range(count)]


def misfit(logits: Tensor, sampling: Sampling, places: Sequence[Draw]) -> float:
    """The p-value of what is drawn at `places`, against the exact distribution."""
    rows = logits.expand(BATCH, -1)
    drawn = [
        draw(
            rows,
            [Draw(sampling, place.key, place.position, row) for row, place in enumerate(places[start : start + BATCH])],
        ).tokens
        for start in range(0, len(places), BATCH)
    ]
    counts = torch.bincount(torch.cat(drawn), minlength=len(logits)).double()
    expected = exact(logits, sampling) * len(places)
    assert counts[expected == 0].sum() == 0, "a filtered token was drawn"
    seen, hoped = [0.0], [0.0]
    for count, hope in zip(counts.tolist(), expected.tolist(), strict=True):
        if hoped[-1] >= 10:  # neighbours count together until the approximation holds
            seen, hoped = [*seen, 0.0], [*hoped, 0.0]
        seen[-1], hoped[-1] = seen[-1] + count, hoped[-1] + hope
    if hoped[-1] < 10:
        seen, hoped = [*seen[:-2], seen[-2] + seen[-1]], [*hoped[:-2], hoped[-2] + hoped[-1]]
    return float(chisquare(seen, hoped).pvalue)


CASES = [
    ("small", Sampling(temperature=1.0)),
    ("small", Sampling(temperature=0.6)),
    ("small", Sampling(temperature=1.7)),
    ("small", Sampling(temperature=0.7, top_k=5)),
    ("small", Sampling(temperature=0.7, top_p=0.8)),
    ("small", Sampling(temperature=0.7, min_p=0.1)),
    ("small", Sampling(temperature=1.3, top_k=20, top_p=0.9, min_p=0.05)),
    ("flat", Sampling(temperature=1.0)),  # the tail bucket wins half of the draws
    ("flat", Sampling(temperature=1.0, top_k=400)),  # wider than the usual candidates
    ("flat", Sampling(temperature=1.0, top_p=0.8)),  # the cut lies beyond the candidates
    ("flat", Sampling(temperature=0.5, min_p=0.7)),
    ("sloped", Sampling(temperature=1.0)),
    ("sloped", Sampling(temperature=1.0, top_p=0.95)),
    ("sloped", Sampling(temperature=1.0, min_p=0.02)),
]


@pytest.mark.parametrize(("kind", "sampling"), CASES)
def test_frequencies_over_keys_match_the_exact_distribution(kind: str, sampling: Sampling) -> None:
    assert misfit(logits_of(kind), sampling, keys_apart(COUNTS[kind])) > ODDS


@pytest.mark.parametrize(("kind", "sampling"), CASES[:8])
def test_frequencies_over_positions_match_the_exact_distribution(kind: str, sampling: Sampling) -> None:
    assert misfit(logits_of(kind), sampling, positions_apart(COUNTS[kind])) > ODDS


@pytest.mark.parametrize(("kind", "sampling"), [CASES[1], CASES[4], CASES[7]])
def test_biased_noise_is_noticed(kind: str, sampling: Sampling, monkeypatch: pytest.MonkeyPatch) -> None:
    def biased(keys: Tensor, positions: Tensor, tokens: Tensor) -> Tensor:
        return 1.3 * noise.gumbel(keys, positions, tokens)

    monkeypatch.setattr(sampler, "gumbel", biased)
    assert misfit(logits_of(kind), sampling, keys_apart(COUNTS[kind])) < ODDS


def test_a_biased_choice_in_the_tail_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def biased(keys: Tensor, positions: Tensor, tokens: Tensor) -> Tensor:
        return noise.uniform(keys, positions, tokens) ** 1.5

    monkeypatch.setattr(sampler, "uniform", biased)
    assert misfit(logits_of("flat"), Sampling(temperature=1.0), keys_apart(COUNTS["flat"])) < ODDS


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_greedy_takes_the_lowest_id_among_ties(dtype: torch.dtype) -> None:
    logits = torch.zeros(3, 1000, dtype=dtype)
    logits[0, [700, 30, 400]] = 2.0
    logits[1, [999, 998]] = 2.0
    logits[2, 5] = 2.0
    drawn = draw(logits, [Draw(Sampling(temperature=0, logprobs=2), key, 3, key) for key in range(3)])
    assert drawn.tokens.tolist() == [30, 998, 5]
    assert drawn.top_tokens[:2].tolist() == [[30, 400], [998, 999]]


def test_log_probabilities_are_the_models_own_whatever_the_sampling() -> None:
    logits = logits_of("flat").expand(4, -1)
    settings = [
        Sampling(temperature=0, logprobs=3),
        Sampling(temperature=0.3, top_k=2),
        Sampling(temperature=2.0, top_p=0.5),
        Sampling(temperature=1.0, min_p=0.9, logprobs=5),
    ]
    drawn = draw(logits, [Draw(sampling, 9, 4, row) for row, sampling in enumerate(settings)])
    own = torch.log_softmax(logits, dim=-1)
    torch.testing.assert_close(drawn.logprobs, own.gather(1, drawn.tokens[:, None])[:, 0])
    torch.testing.assert_close(drawn.top_logprobs, own.topk(5).values)
    assert drawn.top_tokens.tolist() == own.topk(5).indices.tolist()


@pytest.mark.parametrize(("kind", "sampling"), [*CASES, ("flat", Sampling(temperature=0))])
@pytest.mark.parametrize(
    "other",
    [
        Sampling(temperature=0),
        Sampling(temperature=1.0, top_k=600),
        Sampling(temperature=1.0, top_p=0.3, logprobs=64),
        Sampling(temperature=2.0),
    ],
)
def test_a_draw_is_the_same_beside_any_other_row(kind: str, sampling: Sampling, other: Sampling) -> None:
    logits = logits_of(kind)
    draws = [Draw(sampling, child_key(5, i), 30 + i, i + 1) for i in range(40)]
    alone = [draw(logits[None], [replace(one, row=0)]).tokens.item() for one in draws]
    rows = torch.stack([logits.flip(0), *[logits] * 40, 3 * logits])
    among = draw(rows, [Draw(other, 1, 1, 0), *draws, Draw(other, 2, 2, 41)]).tokens[1:-1].tolist()
    assert among == alone
    shared = draw(rows, [replace(one, row=1) for one in draws]).tokens.tolist()
    assert shared == alone, "from one row for all"


def test_noise_is_uniform_and_never_reaches_its_ends() -> None:
    count = 50_000
    key = torch.full((count,), noise.signed(child_key(1, 2)))
    steps, still = torch.arange(count), torch.zeros(count, dtype=torch.int64)
    keys = torch.tensor([noise.signed(child_key(3, i)) for i in range(count)])
    for place in ((keys, still, still), (key, steps, still), (key, still, steps)):
        values = noise.uniform(*place)
        assert values.dtype == torch.float64
        assert 0 < values.min() < values.max() < 1
        assert len(values.unique()) == count
        assert kstest(values.numpy(), "uniform").pvalue > ODDS
        # Neighbours do not follow each other: the odds of 6 standard deviations are 2e-9.
        assert abs(torch.corrcoef(torch.stack([values[:-1], values[1:]]))[0, 1].item()) < 6 / count**0.5


def test_noise_differs_by_key_position_and_token_and_by_nothing_else() -> None:
    def at(key: int, position: int, token: int) -> float:
        return noise.uniform(*(torch.tensor([n]) for n in (noise.signed(key), position, token))).item()

    places = [(7, 3, 5), (8, 3, 5), (7, 4, 5), (7, 3, 6), (3, 7, 5), (7, 5, 3), (1 << 63, 3, 5), (7, 3, -1), (7, 3, -2)]
    assert len({at(*place) for place in places}) == len(places)
    key, position, token = torch.tensor([7]), torch.tensor([3]), torch.arange(10)
    assert noise.uniform(key, position, token)[5].item() == at(7, 3, 5)  # in a batch or alone
