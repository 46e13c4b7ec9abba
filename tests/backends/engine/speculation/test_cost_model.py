"""The cost model, and its measurement."""

from pathlib import Path

import pytest

from branchwise.backends.engine.speculation.cost_measurement import load_or_measure
from branchwise.backends.engine.speculation.cost_model import CostModel
from tests.support.branches import MakeEngine
from tests.support.drafts import costs_of_rows

pytestmark = pytest.mark.usefixtures("one_thread")


def test_costs_are_interpolated_and_extrapolated() -> None:
    costs = costs_of_rows((1, 4, 8), (1.0, 1.0, 3.0))
    assert [costs.at(1, rows) for rows in (1, 2, 4, 6, 8, 12)] == [1, 1, 1, 2, 3, 5]
    costs = CostModel((1, 3), ((1, 3), (1, 2)), ((1.0, 2.0), (2.0, 4.0)))
    assert [costs.at(1, 2), costs.at(3, 3), costs.at(3, 6), costs.at(2, 2), costs.at(2, 4)] == [1.5, 2, 4, 1.5, 2.75]


def test_sampling_is_part_of_the_cost() -> None:
    costs = CostModel((1,), ((1, 2),), ((1.0, 1.0),), seconds_per_sample=0.5)
    assert costs.rate(1, 1, 1) == pytest.approx(1 / 1.5)
    assert costs.rate(2, 1, 2) == pytest.approx(1.0)


def test_costs_are_saved_by_the_shape_of_a_model(make_engine: MakeEngine, tmp_path: Path) -> None:
    class Clock:
        calls = 0

        def __call__(self) -> float:
            self.calls += 1
            return float(self.calls)

    def clock_calls(name: str, folder: str) -> int:
        engine, clock = make_engine(name), Clock()
        engine._model.network.config._name_or_path = folder
        load_or_measure(engine._model, engine._loop.pool, tmp_path, clock=clock)
        return clock.calls

    assert clock_calls("llama", "/here") > 0
    assert clock_calls("llama", "/there") == 0
    assert clock_calls("qwen3", "/there") > 0
