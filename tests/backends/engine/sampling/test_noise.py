"""Keyed noise: uniform, and a function of key, position and token alone.

ODDS are those of a false alarm in one test, over the choice of keys.
"""

import pytest
import torch
from scipy.stats import kstest

from branchwise.backends.engine.sampling import noise
from branchwise.core.keys import child_key

pytestmark = pytest.mark.usefixtures("one_thread")

ODDS = 2e-8


def test_noise_is_uniform_and_never_0_or_1() -> None:
    count = 50_000
    key = torch.full((count,), noise.signed(child_key(1, 2)))
    steps, zeros = torch.arange(count), torch.zeros(count, dtype=torch.int64)
    keys = torch.tensor([noise.signed(child_key(3, i)) for i in range(count)])
    for place in ((keys, zeros, zeros), (key, steps, zeros), (key, zeros, steps)):
        values = noise.uniform(*place)
        assert values.dtype == torch.float64
        assert 0 < values.min() < values.max() < 1
        assert len(values.unique()) == count
        assert kstest(values.numpy(), "uniform").pvalue > ODDS
        # Neighbours are uncorrelated: the odds of 6 standard deviations are 2e-9.
        assert abs(torch.corrcoef(torch.stack([values[:-1], values[1:]]))[0, 1].item()) < 6 / count**0.5


def test_noise_depends_on_key_position_and_token_alone() -> None:
    def at(key: int, position: int, token: int) -> float:
        return noise.uniform(*(torch.tensor([n]) for n in (noise.signed(key), position, token))).item()

    places = [(7, 3, 5), (8, 3, 5), (7, 4, 5), (7, 3, 6), (3, 7, 5), (7, 5, 3), (1 << 63, 3, 5), (7, 3, -1), (7, 3, -2)]
    assert len({at(*place) for place in places}) == len(places)
    key, position, token = torch.tensor([7]), torch.tensor([3]), torch.arange(10)
    assert noise.uniform(key, position, token)[5].item() == at(7, 3, 5)  # in a batch or alone
