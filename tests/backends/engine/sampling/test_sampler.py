"""Sampled tokens against exact probabilities.

Every distribution test is a chi-square test of fixed keys. Over the choice of keys, each raises a false alarm with
probability ODDS, all of them together with less than 1e-6.
"""

from collections.abc import Sequence
from dataclasses import replace

import hypothesis
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from branchwise.backends.engine.sampling import noise, sampler
from branchwise.backends.engine.sampling.sampler import CANDIDATES, SampleRequest, sample
from branchwise.core.keys import child_key
from branchwise.core.sampling import Sampling
from tests.support.distributions import exact, fit

pytestmark = pytest.mark.usefixtures("one_thread")

ODDS = 2e-8  # of a false alarm in one test; fewer than 50 tests
BATCH = 1000  # rows sampled at once
COUNTS = {"small": 12_000, "flat": 4000, "sloped": 4000}  # samples, by kind of logits


def logits_of(kind: str) -> Tensor:
    """Return [vocabulary] float64 logits."""
    generator = torch.Generator().manual_seed(5)
    if kind == "small":
        return 1.5 * torch.randn(40, generator=generator, dtype=torch.float64)
    if kind == "flat":  # half of the weight is outside the candidates
        return 0.1 * torch.randn(2 * CANDIDATES, generator=generator, dtype=torch.float64)
    return torch.linspace(0.0, -4.0, 2 * CANDIDATES, dtype=torch.float64)[
        torch.randperm(2 * CANDIDATES, generator=generator)
    ]  # sloped: a tenth of the weight is outside them


def requests_of_keys(count: int) -> list[SampleRequest]:
    """Return requests of many branches at one position."""
    return [SampleRequest(Sampling(), child_key(77, i), 12, i) for i in range(count)]


def requests_of_positions(count: int) -> list[SampleRequest]:
    """Return requests of one branch at many positions."""
    return [SampleRequest(Sampling(), child_key(78, 0), i, i) for i in range(count)]


def fit_of_samples(logits: Tensor, sampling: Sampling, requests: Sequence[SampleRequest]) -> float:
    """Return the p-value of the samples of `requests` under the exact distribution."""
    rows = logits.expand(BATCH, -1)
    tokens = []
    for start in range(0, len(requests), BATCH):
        batch = requests[start : start + BATCH]
        tokens.append(sample(rows, [replace(one, sampling=sampling, row=row) for row, one in enumerate(batch)]).tokens)
    counts = torch.bincount(torch.cat(tokens), minlength=len(logits)).double()
    expected = exact(logits, sampling) * len(requests)
    assert counts[expected == 0].sum() == 0, "a filtered token was sampled"
    return fit(counts.tolist(), expected.tolist())


CASES = [
    ("small", Sampling(temperature=1.0)),
    ("small", Sampling(temperature=0.6)),
    ("small", Sampling(temperature=1.7)),
    ("small", Sampling(temperature=0.7, top_k=5)),
    ("small", Sampling(temperature=0.7, top_p=0.8)),
    ("small", Sampling(temperature=0.7, min_p=0.1)),
    ("small", Sampling(temperature=1.3, top_k=20, top_p=0.9, min_p=0.05)),
    ("flat", Sampling(temperature=1.0)),  # the tail bucket wins half of the samples
    ("flat", Sampling(temperature=1.0, top_k=400)),  # wider than the usual candidates
    ("flat", Sampling(temperature=1.0, top_p=0.8)),  # the cut is after the candidates
    ("flat", Sampling(temperature=0.5, min_p=0.7)),
    ("sloped", Sampling(temperature=1.0)),
    ("sloped", Sampling(temperature=1.0, top_p=0.95)),
    ("sloped", Sampling(temperature=1.0, min_p=0.02)),
]


@pytest.mark.parametrize(("kind", "sampling"), CASES)
def test_frequencies_over_keys_are_exact(kind: str, sampling: Sampling) -> None:
    assert fit_of_samples(logits_of(kind), sampling, requests_of_keys(COUNTS[kind])) > ODDS


@pytest.mark.parametrize(("kind", "sampling"), CASES[:8])
def test_frequencies_over_positions_are_exact(kind: str, sampling: Sampling) -> None:
    assert fit_of_samples(logits_of(kind), sampling, requests_of_positions(COUNTS[kind])) > ODDS


@pytest.mark.parametrize(("kind", "sampling"), [CASES[1], CASES[4], CASES[7]])
def test_biased_noise_is_detected(kind: str, sampling: Sampling, monkeypatch: pytest.MonkeyPatch) -> None:
    def biased(keys: Tensor, positions: Tensor, tokens: Tensor) -> Tensor:
        return 1.3 * noise.gumbel(keys, positions, tokens)

    monkeypatch.setattr(sampler, "gumbel", biased)
    assert fit_of_samples(logits_of(kind), sampling, requests_of_keys(COUNTS[kind])) < ODDS


def test_a_biased_sample_of_the_tail_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    def biased(keys: Tensor, positions: Tensor, tokens: Tensor) -> Tensor:
        return noise.uniform(keys, positions, tokens) ** 1.5

    monkeypatch.setattr(sampler, "uniform", biased)
    assert fit_of_samples(logits_of("flat"), Sampling(temperature=1.0), requests_of_keys(COUNTS["flat"])) < ODDS


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_greedy_takes_the_lowest_id_among_ties(dtype: torch.dtype) -> None:
    logits = torch.zeros(3, 1000, dtype=dtype)
    logits[0, [700, 30, 400]] = 2.0
    logits[1, [999, 998]] = 2.0
    logits[2, 5] = 2.0
    samples = sample(logits, [SampleRequest(Sampling(temperature=0, logprobs=2), key, 3, key) for key in range(3)])
    assert samples.tokens.tolist() == [30, 998, 5]
    assert samples.top_tokens[:2].tolist() == [[30, 400], [998, 999]]


def test_log_probabilities_do_not_depend_on_the_settings() -> None:
    logits = logits_of("flat").expand(4, -1)
    settings = [
        Sampling(temperature=0, logprobs=3),
        Sampling(temperature=0.3, top_k=2),
        Sampling(temperature=2.0, top_p=0.5),
        Sampling(temperature=1.0, min_p=0.9, logprobs=5),
    ]
    samples = sample(logits, [SampleRequest(sampling, 9, 4, row) for row, sampling in enumerate(settings)])
    own = torch.log_softmax(logits, dim=-1)
    torch.testing.assert_close(samples.logprobs, own.gather(1, samples.tokens[:, None])[:, 0])
    torch.testing.assert_close(samples.top_logprobs, own.topk(5).values)
    assert samples.top_tokens.tolist() == own.topk(5).indices.tolist()


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
def test_a_sample_does_not_depend_on_other_rows(kind: str, sampling: Sampling, other: Sampling) -> None:
    logits = logits_of(kind)
    requests = [SampleRequest(sampling, child_key(5, i), 30 + i, i + 1) for i in range(40)]
    alone = [sample(logits[None], [replace(one, row=0)]).tokens.item() for one in requests]
    rows = torch.stack([logits.flip(0), *[logits] * 40, 3 * logits])
    among = [SampleRequest(other, 1, 1, 0), *requests, SampleRequest(other, 2, 2, 41)]
    together = sample(rows, among).tokens[1:-1].tolist()
    assert together == alone
    shared = sample(rows, [replace(one, row=1) for one in requests]).tokens.tolist()
    assert shared == alone, "all from one row"


_SETTINGS = st.builds(
    Sampling,
    temperature=st.one_of(st.just(0.0), st.floats(0, 1e4)),
    top_p=st.floats(0, 1, exclude_min=True),
    top_k=st.one_of(st.just(0), st.integers(0, 300), st.integers(0, 2**31 - 1)),
    min_p=st.floats(0, 1, exclude_max=True),
    logprobs=st.integers(0, 64),
)


@hypothesis.settings(deadline=None, max_examples=150)
@given(
    settings=st.lists(_SETTINGS, min_size=1, max_size=4),
    vocabulary=st.sampled_from([64, 300, 20_000]),
    scale=st.sampled_from([0.0, 1e-3, 5.0, 1e4, 1e30]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
)
def test_every_setting_yields_a_token_of_the_vocabulary(
    settings: list[Sampling], vocabulary: int, scale: float, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(vocabulary)
    logits = (scale * torch.randn(len(settings), vocabulary, generator=generator)).to(dtype)
    rows = [SampleRequest(one, child_key(3, i), 1, i) for i, one in enumerate(settings)]
    together = sample(logits, rows)
    assert all(0 <= token < vocabulary for token in together.tokens.tolist())
    assert bool(together.logprobs.isfinite().all())
    alone = [sample(logits[i : i + 1], [replace(row, row=0)]).tokens.item() for i, row in enumerate(rows)]
    assert together.tokens.tolist() == alone
