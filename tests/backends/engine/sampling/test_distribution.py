"""The sampling distribution of whole rows against the slow and obvious one."""

import pytest
import torch

from branchwise.backends.engine.sampling.distribution import distribution
from branchwise.core.sampling import Sampling
from tests.support.distributions import exact


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.6),
        Sampling(temperature=0.7, top_k=5),
        Sampling(temperature=0.7, top_p=0.8),
        Sampling(temperature=0.7, min_p=0.1),
        Sampling(temperature=1.3, top_k=20, top_p=0.9, min_p=0.05),
    ],
)
def test_the_filters_are_those_of_the_settings(sampling: Sampling) -> None:
    logits = 1.5 * torch.randn(40, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    torch.testing.assert_close(distribution(logits, sampling), exact(logits, sampling))


def test_greedy_is_certain() -> None:
    assert distribution(torch.tensor([0.0, 2.0, 1.0]), Sampling(temperature=0)).tolist() == [0, 1, 0]
