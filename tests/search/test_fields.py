"""Fields of tree searches are validated at construction."""

from dataclasses import replace

import pytest

import branchwise as bw
from branchwise.search import DVTS, MCTS, Beam, BestFirst, BestOfN, ParticleFilter, Rebase, ToTBFS, ToTDFS
from branchwise.strategies import AnyStrategy

EVERY: list[AnyStrategy] = [
    BestOfN(),
    Beam(),
    DVTS(),
    Rebase(),
    ParticleFilter(),
    MCTS(),
    ToTBFS(),
    ToTDFS(),
    BestFirst(),
]


@pytest.mark.parametrize("strategy", EVERY, ids=lambda strategy: strategy.name)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("paths", 0),
        ("value", "luck"),
        ("final", "luck"),
        ("over", "max"),
        ("choose", "worst"),
        ("step", "word"),
        ("step", 0),
        ("rollouts", 0),
        ("max_steps", 0),
        ("nodes", 0),
    ],
)
def test_common_fields_are_validated_at_construction(strategy: AnyStrategy, field: str, value: object) -> None:
    with pytest.raises(bw.ConfigError, match=field):
        replace(strategy, **{field: value})  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("strategy", "field", "value"),
    [
        (Beam(8), "width", 0),
        (Beam(8), "width", 3),
        (DVTS(8), "width", 5),
        (Rebase(), "temperature", 0.0),
        (ParticleFilter(), "temperature", -1.0),
        (MCTS(), "width", 0),
        (MCTS(), "rule", "ucb"),
        (MCTS(), "exploration", -1.0),
        (MCTS(), "parallel", 0),
        (ToTBFS(4), "keep", 5),
        (ToTBFS(4), "keep", 0),
        (ToTDFS(), "width", 0),
        (ToTDFS(), "answers", 0),
        (BestFirst(), "width", 0),
        (BestFirst(), "cost", "money"),
        (BestFirst(), "parallel", 0),
        (BestFirst(), "answers", 0),
    ],
)
def test_fields_of_one_search_are_validated_at_construction(strategy: AnyStrategy, field: str, value: object) -> None:
    with pytest.raises(bw.ConfigError, match=field):
        replace(strategy, **{field: value})  # type: ignore[type-var]
