"""Evaluation of programs, which are tested in the sandbox, and of expressions for the Game of 24."""

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

import branchwise as bw
from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.evaluation.answered import Answered
from branchwise.evaluation.dataset import read_rows
from branchwise.evaluation.grading import grade, is_correct
from branchwise.evaluation.row import Row
from branchwise.evaluation.run import Plan, evaluate
from branchwise.sandbox.outcome import SandboxError
from tests.support.commands import quick, run
from tests.support.tiny_models import tiny_llama, tiny_tokenizer

needs_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sandbox needs Linux")

COMPLETE: dict[str, object] = {
    "id": "complete",
    "question": 'def double(x: int) -> int:\n    """Twice x."""\n',
    "answer": "    return 2 * x\n",
    "answer_type": "tests",
    "tests": ["META = {}\n\n\ndef check(candidate):\n    assert candidate(3) == 6\n    assert candidate(-1) == -2\n"],
    "entry_point": "double",
}
SENTENCE: dict[str, object] = {
    "id": "sentence",
    "question": "Write a function to find the whole square root of a number.",
    "answer": "def root(x):\n    return math.isqrt(x)",
    "answer_type": "tests",
    "tests": ["assert root(4) == 2", "assert root(10) == 3"],
    "test_imports": ["import math"],
}
GAME: dict[str, object] = {"id": "game", "question": "1 2 2 6", "answer": "24", "answer_type": "expression24"}


def rows(folder: Path, *records: dict[str, object]) -> Sequence[Row]:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in records))
    return read_rows(str(file))


@needs_linux
def test_programs_and_games_are_read(tmp_path: Path) -> None:
    complete, sentence, game = rows(tmp_path, COMPLETE, SENTENCE, GAME)
    assert [row.task.name for row in (complete, sentence, game)] == ["code", "code", "game24"]
    assert complete.question == COMPLETE["question"]
    # Only the tests contain the name of the function.
    lines = sentence.question.splitlines()
    assert lines[0] == SENTENCE["question"]
    assert lines[-2:] == SENTENCE["tests"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**COMPLETE, "tests": []}, "line 1, answer_type: 'tests' needs tests, and there are none; add `tests`"),
        ({**COMPLETE, "tests": ""}, "line 1, answer_type: 'tests' needs tests"),
        ({**COMPLETE, "tests": 7}, "line 1, tests"),
        ({**COMPLETE, "entry_point": "f(); g"}, r"line 1, entry_point: 'f\(\); g' is not the name of a function"),
        ({**SENTENCE, "test_imports": [1]}, "line 1, test_imports"),
        ({**GAME, "question": "What?"}, "line 1, question: has no numbers to make 24 of; write them as `4 4 6 8`"),
    ],
)
def test_an_invalid_row_is_named(row: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(bw.ConfigError, match=message):
        rows(tmp_path, row)


@pytest.mark.parametrize(
    ("row", "answer", "right"),
    [
        (COMPLETE, COMPLETE["answer"], True),
        (COMPLETE, "def double(x):\n    return x + x", True),
        (COMPLETE, "def double(x):\n    return 6", False),
        (COMPLETE, "    return None", False),
        (COMPLETE, "import sys\nsys.exit(0)", False),
        (COMPLETE, "import os\nos._exit(0)", False),
        (COMPLETE, "def double(x):\n    return 2 *", False),
        (COMPLETE, None, False),
        (SENTENCE, SENTENCE["answer"], True),
        (SENTENCE, "from __future__ import annotations\ndef root(x):\n    return int(x ** 0.5)", True),
        (SENTENCE, "def root(x):\n    return 2", False),
        (GAME, "(1 + 2) * (2 + 6) = 24", True),
        (GAME, "2 * 6 * 2 * 1", True),
        (GAME, "24", False),
        (GAME, "4 * 6", False),
        (GAME, None, False),
    ],
)
@needs_linux
async def test_answers_are_checked(row: dict[str, object], answer: str | None, right: bool) -> None:
    assert await is_correct(Row.model_validate(row), answer) is right


@needs_linux
async def test_grading_leaves_the_event_loop_free() -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.02)
            ticks += 1

    ticking, row = asyncio.create_task(tick()), Row.model_validate(COMPLETE)
    started = time.monotonic()
    slow = "import time\ntime.sleep(0.5)\ndef double(x):\n    return 2 * x"
    graded = await asyncio.gather(*(grade(row, f"{slow}  # {number}") for number in range(4)))
    seconds = time.monotonic() - started
    ticking.cancel()
    assert all(one.correct for one in graded)
    assert ticks > seconds / 0.02 / 5
    assert seconds >= 0.5 * 4 / (os.cpu_count() or 1)
    assert threading.active_count() < 64


@needs_linux
async def test_a_strategy_is_evaluated_on_programs_and_games(tmp_path: Path) -> None:
    """Programs that differ only in layout share their votes."""
    replies = [
        "```python\ndef double(x):\n    return 3 * x\n```",
        "```python\ndef double(x):\n    return 2*x  # twice\n```",
        '```python\ndef double(x: int) -> int:\n    """Twice x."""\n    return (x * 2)\n```',
        "```python\ndef double(x):\n    return 2 * x\n```",
        "I do not know.",
    ]
    answered: list[Answered] = []
    games = ["Answer: (1 + 2) * (2 + 6) = 24", "Answer: 1 + 2 = 3", "(1+2) × (2+6)"]

    def script(path: bw.Path, before: int) -> str:
        texts = games if "1 2 2 6" in str(path.root.messages) else replies
        return texts[before % len(texts)]

    read = rows(tmp_path, COMPLETE, GAME)
    plan = Plan("rows", read, {"sc": bw.SelfConsistency(5)}, concurrency=2)
    await evaluate(plan, lambda name: ScriptedBackend(script), answered.append, bw.Stop())
    program, game = sorted(answered, key=lambda one: one.id)
    assert (program.correct, game.correct) == (True, True)
    assert program.answer == "def double(x):\n    return 2*x  # twice"
    assert sorted(program.votes.values()) == [1.0, 1.0, 2.0]
    assert program.right == (False, True, True, True, False)
    assert game.votes == {"(1 + 2) * (2 + 6)": 3.0, "1 + 2": 2.0}
    assert not program.errors


def test_rows_with_tests_need_a_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(SandboxError, match="sandbox: "):
        rows(tmp_path, COMPLETE)
    assert rows(tmp_path, GAME)


@needs_linux
def test_eval_grades_programs(tmp_path: Path) -> None:
    tiny_llama(torch.float32, context=2048).save_pretrained(tmp_path / "tiny")  # examples precede a game
    tiny_tokenizer().save_pretrained(tmp_path / "tiny")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (COMPLETE, SENTENCE, GAME)))
    done = run("eval", "rows.jsonl", *quick(tmp_path / "tiny"), "--strategy", "greedy", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "0 of 3" in done.stdout
