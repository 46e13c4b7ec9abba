"""Results of a run: failures that are tried again, and batches that change."""

from pathlib import Path

import branchwise as bw
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.evaluation import Answered, Journal, RunSettings, read_results
from tests.support.evaluations import evaluate_rows, numbered_rows


async def test_only_failed_questions_are_tried_again(tmp_path: Path) -> None:
    rows, strategies = numbered_rows(3), {"sc": bw.SelfConsistency(2)}
    settings = RunSettings.of(
        model="scripted", seed=0, dtype=None, capabilities=ScriptedBackend({}).capabilities, strategies=strategies
    )

    async def answer(backend: ScriptedBackend) -> list[Answered]:
        with Journal(tmp_path, settings) as journal:
            answered = await evaluate_rows(
                rows, strategies, backend, on_answered=journal.add, done=journal.done("rows", rows)
            )
            assert len(journal.answered) == 3
        return answered

    down = Reply("The", fail_after=1)
    backend = ScriptedBackend(lambda path, before: down if "q1" in str(path.root.messages) else "The answer is 1.")
    assert [one.failed for one in await answer(backend)] == [False, True, False]
    (again,) = await answer(ScriptedBackend({"": ["The answer is 1."]}))
    assert (again.id, again.failed, again.correct) == ("1", False, True)
    kept = read_results(tmp_path)
    assert [(one.id, one.correct) for one in kept] == [("0", True), ("1", True), ("2", True)]
    assert await answer(backend) == []
    failed = again.model_copy(update={"outcome": "failed", "correct": False})
    with Journal(tmp_path, settings) as journal:
        journal.add(failed)  # as in a batch that is answered again because another question failed
        assert [one.correct for one in journal.answered] == [True] * 3
    assert [one.correct for one in read_results(tmp_path)] == [True] * 3


async def test_an_answer_from_another_batch_replaces_the_whole_old_batch(tmp_path: Path) -> None:
    """The answers of a batch share a budget, which the new batch spends differently."""
    strategies = {"blend": bw.BlendASC(3, window=1)}
    backend = ScriptedBackend({"": ["The answer is 1."]})
    settings = RunSettings.of(
        model="scripted", seed=0, dtype=None, capabilities=backend.capabilities, strategies=strategies
    )
    for rows in (numbered_rows(4)[2:], numbered_rows(2), numbered_rows(1)):
        with Journal(tmp_path, settings) as journal:
            done = journal.done("rows", rows)
            await evaluate_rows(rows, strategies, backend, on_answered=journal.add, done=done)
            kept = journal.answered
        assert {one.id for one in kept} == {one.id for one in rows} | {"2", "3"}
        assert read_results(tmp_path) == kept
