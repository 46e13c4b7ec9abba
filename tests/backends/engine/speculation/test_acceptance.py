"""Acceptance rates that are learned from verified drafts."""

import pytest

from branchwise.backends.engine.speculation.acceptance import AcceptanceRates
from tests.support.drafts import chain_of


def test_rates_approach_the_observed_ones() -> None:
    rates = AcceptanceRates()
    for _ in range(500):
        rates.record(chain_of(0.85, 0.85), [0])  # the first is always accepted, the second never
    first, second = rates.probabilities(chain_of(0.85, 0.85))
    assert first == pytest.approx(0.5, abs=0.02)  # both are of one kind
    assert second == pytest.approx(0.25, abs=0.02)
    rates.record(chain_of(0.3), [])
    assert rates.probabilities(chain_of(0.3))[0] < 0.8 * 0.3


def test_old_observations_count_less() -> None:
    rates = AcceptanceRates()
    for _ in range(5000):
        rates.record(chain_of(0.85), [0])
    for _ in range(1000):
        rates.record(chain_of(0.85), [])
    assert rates.probabilities(chain_of(0.85))[0] < 0.2


def test_recent_outcomes_scale_the_rates_of_all_kinds() -> None:
    """A question answered greedily says little about one that is sampled."""
    rates = AcceptanceRates()
    for _ in range(1000):
        rates.record(chain_of(0.85), [0])
    assert rates.probabilities(chain_of(0.85))[0] > 0.95
    before = rates.probabilities(chain_of(0.45))[0]
    for _ in range(40):
        rates.record(chain_of(0.85), [])
    assert rates.probabilities(chain_of(0.85))[0] < 0.6
    assert rates.probabilities(chain_of(0.45))[0] < 0.7 * before
    for _ in range(200):
        rates.record(chain_of(0.45), [0])
    assert rates.probabilities(chain_of(0.45))[0] > 0.9
