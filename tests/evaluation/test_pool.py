"""Pools: each strategy replays its own record first."""

from pathlib import Path

import branchwise as bw
from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.evaluation import Journal, Pool, RunSettings
from branchwise.evaluation.pool import replay_and_record
from tests.support.evaluations import evaluate_rows, numbered_rows


async def test_a_strategy_replays_its_own_record_first(tmp_path: Path) -> None:
    """With rounded probabilities, two strategies may have sampled different paths for the same key."""
    answers = {"a": "1", "b": "2", "b:paths=2": "3", "c": "4"}
    strategies = dict.fromkeys(answers, bw.SelfConsistency(2))
    capabilities = ScriptedBackend({}).capabilities
    with Journal(
        tmp_path, RunSettings.of(model="scripted", seed=0, dtype=None, capabilities=capabilities, strategies=strategies)
    ) as journal:
        for name, answer in answers.items():
            backend = replay_and_record(
                name, capabilities, ScriptedBackend({"": [f"The answer is {answer}."]}), None, journal
            )
            await evaluate_rows(numbered_rows(1), {name: strategies[name]}, backend, on_answered=journal.add)
    for name, answer in [*answers.items(), ("other", "1")]:
        (one,) = await evaluate_rows(
            numbered_rows(1),
            {name: bw.SelfConsistency(2)},
            replay_and_record(name, capabilities, None, Pool(tmp_path), None),
        )
        assert one.votes == {answer: 2}, name
