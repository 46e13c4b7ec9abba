"""Evaluations on scripted backends, and answered questions to summarize."""

from collections.abc import Callable, Mapping, Sequence

import branchwise as bw
from branchwise.backends.base import Backend
from branchwise.evaluation import Answered, Plan, Row, evaluate
from branchwise.strategies.strategy import AnyStrategy


async def evaluate_rows(
    rows: Sequence[Row],
    strategies: Mapping[str, AnyStrategy],
    backend: Backend,
    *,
    concurrency: int = 1,
    on_answered: Callable[[Answered], None] = lambda one: None,
    stop: bw.Stop | None = None,
    done: Mapping[tuple[str, str], str] | None = None,
) -> list[Answered]:
    """Return the answered questions in the order in which they were reported."""
    answered: list[Answered] = []

    def collect(one: Answered) -> None:
        answered.append(one)
        on_answered(one)

    plan = Plan("rows", rows, strategies, concurrency=concurrency, done=done or {})
    await evaluate(plan, lambda name: backend, collect, stop or bw.Stop())
    return answered


def numbered_rows(count: int, answer: str = "1") -> list[Row]:
    """Return rows with the ids "0", "1", ... and the questions "q0", "q1", ..."""
    return [Row(id=str(i), question=f"q{i}", answer=answer) for i in range(count)]


def make_answered(
    id_: str = "a",
    strategy: str = "sc",
    correct: bool = True,
    sampled: int = 100,
    texts: tuple[str, ...] = ("The answer is 1.",),
    **fields: object,
) -> Answered:
    """Return an answered question with one path per text; `fields` replace the defaults."""
    record = {
        "data": "rows",
        "id": id_,
        "strategy": strategy,
        "question": "q",
        "reference": "1",
        "correct": correct,
        "answer": "1",
        "confidence": 0.8,
        "votes": {"1": len(texts)},
        "outcome": "complete",
        "usage": {"sampled": sampled, "seconds": 2.0},
        "paths": [make_path(branch, text) for branch, text in enumerate(texts)],
        "right": [correct] * len(texts),
        "curve": [(sampled, correct)],
    }
    return Answered.model_validate({**record, **fields})


def make_path(branch: int, text: str, vote: str = "1") -> dict[str, object]:
    """Return the fields of an AnsweredPath."""
    return {
        "branch": branch,
        "answer": vote,
        "vote": vote,
        "text": text,
        "tokens": 5,
        "parent": None,
        "prefix_tokens": 0,
        "prefix_chars": 0,
        "stop_reason": "end",
    }
