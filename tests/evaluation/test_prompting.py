"""Prompts of an evaluation: another task, thinking, and rows shown as worked examples."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

import branchwise as bw
from branchwise.backends.base import Capabilities
from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.evaluation import Columns, Plan, Row, RunSettings, evaluate
from branchwise.evaluation.prompting import FewShot, Prompting, find_eval_task, read_asked, worked_example
from branchwise.prompts.library import task
from branchwise.prompts.task import Exemplar
from branchwise.prompts.thinking import Thinking


def write(folder: Path, rows: Sequence[Mapping[str, object]], name: str = "rows.jsonl") -> str:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / name)


def numbered(count: int) -> list[dict[str, object]]:
    return [{"question": f"What is {i} + 1?", "answer": f"{i} + 1 = {i + 1}.\n#### {i + 1}"} for i in range(count)]


def row(answer_type: str, answer: str, solution: str = "", question: str = "q") -> Row:
    return Row(id="a", question=question, answer=answer, answer_type=answer_type, solution=solution)


BEGIN = 'def f() -> int:\n    """One."""\n'
BOX = "So it is $\\boxed{42}$."


@pytest.mark.parametrize(
    ("example", "solution"),
    [
        (row("number", "1,042"), "The answer is $\\boxed{1,042}$."),
        (row("number", "42", "6 * 7 = 42."), "6 * 7 = 42.\nThe answer is $\\boxed{42}$."),
        (row("number", "42", "So 6 * 7.\nThe answer is 42.0."), "So 6 * 7.\nThe answer is 42.0."),
        (row("number", "42", "The answer is 41."), "The answer is 41.\nThe answer is $\\boxed{42}$."),
        (row("latex", "42", BOX), BOX),
        (row("latex", "\\frac{1}{2}"), "The answer is $\\boxed{\\frac{1}{2}}$."),
        (row("letter", "(b)"), "The answer is (B)."),
        (row("yes_no", "True"), "The answer is yes."),
        (row("boolean", "no", "It can't."), "It can't.\nThe answer is False."),
        (row("text", "New York"), "Answer: New York"),
        (row("expression24", "24", "(6 - 4) * (4 + 8)", "4 4 6 8"), "Answer: (6 - 4) * (4 + 8)"),
        (row("expression24", "(6 - 4) * (4 + 8)", question="4 4 6 8"), "Answer: (6 - 4) * (4 + 8)"),
        (row("tests", "def f():\n    return 1", "def f():\n    return 1"), "```python\ndef f():\n    return 1\n```"),
        (row("tests", "    return 1\n", question=BEGIN), f"```python\n{BEGIN}\n    return 1\n```"),
    ],
)
def test_an_example_ends_with_its_answer(example: Row, solution: str) -> None:
    shown = worked_example(example, example.task)
    assert (shown.question, shown.solution) == (example.question, solution)
    stated = example.task.format.extract(solution)
    assert stated is not None
    if example.answer_type not in ("tests", "expression24"):
        assert example.task.format.normal(stated) == example.task.format.normal(example.answer)


def test_an_example_follows_the_task_that_is_used() -> None:
    assert worked_example(row("number", "42"), task("math-few-shot")).solution == "The answer is 42."
    assert worked_example(row("number", "42"), task("text")).solution == "Answer: 42"
    for example in (row("tests", " "), row("expression24", "24", "6 - 4", "4 4 6 8")):
        with pytest.raises(bw.ConfigError, match="few_shot: shows row a, which has no answer; give it one"):
            worked_example(example, example.task)


def asked(
    source: str, few_shot: FewShot, skip: int = 0, limit: int | None = None
) -> tuple[list[str], list[str] | None]:
    """Return the questions that are asked, and those of the examples."""
    found = read_asked(source, skip, limit, Columns(), Prompting(), few_shot)
    examples = found.prompting.examples
    return [one.question for one in found.rows], None if examples is None else [one.question for one in examples]


def test_examples_are_rows_that_are_not_asked(tmp_path: Path) -> None:
    source = write(tmp_path, numbered(6))
    questions = [str(one["question"]) for one in numbered(6)]
    assert asked(source, FewShot()) == (questions, None)
    assert asked(source, FewShot(0)) == (questions, [])
    assert asked(source, FewShot(2)) == (questions[2:], questions[:2])
    assert asked(source, FewShot(2), limit=2) == (questions[2:4], questions[:2])
    assert asked(source, FewShot(2), skip=1, limit=3) == (questions[2:5], questions[:2])
    assert asked(source, FewShot(2), skip=4) == (questions[4:], questions[:2])
    (first, *_) = read_asked(source, 0, 1, Columns(), Prompting(), FewShot(2)).rows
    assert first.id == "rows-2"
    for count, message in [(6, "leaves no row of"), (7, "is 7, but .* has 6 rows"), (-1, "is -1; use 0")]:
        with pytest.raises(bw.ConfigError, match=f"few_shot: {message}"):
            asked(source, FewShot(count))


def test_examples_come_from_another_file(tmp_path: Path) -> None:
    source = write(tmp_path, numbered(4))
    others = write(tmp_path, [numbered(4)[1], {"question": "What is 9 + 1?", "answer": "10"}], "others.jsonl")
    questions = [str(one["question"]) for one in numbered(4)]
    rest = [questions[0], *questions[2:]]
    assert asked(source, FewShot(source=others)) == (rest, [questions[1], "What is 9 + 1?"])
    assert asked(source, FewShot(1, others), limit=3) == (rest, [questions[1]])


def test_examples_are_answered_as_the_rows_are(tmp_path: Path) -> None:
    source = write(tmp_path, [{"question": "q", "answer": "x^2", "answer_type": "latex"}])
    others = write(tmp_path, [{"question": "r", "answer": "y"}], "others.jsonl")  # a text, as far as it can be seen
    found = read_asked(source, 0, None, Columns(), Prompting(), FewShot(source=others))
    assert found.prompting.examples == (Exemplar("r", "The answer is $\\boxed{y}$."),)


async def test_prompts_have_task_examples_and_thinking(tmp_path: Path) -> None:
    source = write(tmp_path, numbered(3))
    prompting = Prompting(task("math-few-shot"), Thinking(enabled=False))
    rows, used = read_asked(source, 0, 1, Columns(), prompting, FewShot(1))
    prompts: list[bw.Messages] = []

    def script(path: bw.Path, before: int) -> str:
        assert path.root.messages is not None
        prompts.append(path.root.messages)
        return "The answer is 2."

    plan = Plan("rows", rows, {"greedy": bw.Greedy()}, prompting=used)
    answered: list[bool] = []
    await evaluate(plan, lambda _: ScriptedBackend(script), lambda one: answered.append(one.correct), bw.Stop())
    (prompt,) = prompts
    assert [(turn.role, turn.content) for turn in prompt.turns] == [
        ("system", task("math-few-shot").instruction),
        ("user", "What is 0 + 1?"),
        ("assistant", "0 + 1 = 1.\nThe answer is 1."),
        ("user", "What is 1 + 1?"),
    ]
    assert prompt.thinking is False
    assert answered == [True]


def test_tasks_are_found_by_name_or_answer_type() -> None:
    assert [find_eval_task(name).name for name in ("math-few-shot", "letter", "latex")] == [
        "math-few-shot",
        "choice",
        "math",
    ]
    with pytest.raises(bw.ConfigError, match="task: 'chioce' is unknown; did you mean choice"):
        find_eval_task("chioce")


def test_a_run_is_not_resumed_with_other_prompts(tmp_path: Path) -> None:
    source = write(tmp_path, numbered(4))

    def settings(prompting: Prompting, few_shot: FewShot) -> RunSettings:
        asked = read_asked(source, 0, None, Columns(), prompting, few_shot)
        capabilities = Capabilities(model="m", context=100)
        return RunSettings.of(
            model="m",
            seed=0,
            dtype=None,
            capabilities=capabilities,
            strategies={},
            files={"rows": source},
            prompting={"rows": asked.prompting},
        )

    plain = settings(Prompting(), FewShot())
    earlier = RunSettings.model_validate(plain.model_dump(exclude={"task", "thinking", "thinking_budget", "examples"}))
    assert plain.merge(earlier, tmp_path) == plain  # of version 0.1.0
    shown = settings(Prompting(), FewShot(2))
    assert shown.merge(shown, tmp_path) == shown
    others = [
        ("examples of rows", shown),
        ("examples of rows", settings(Prompting(), FewShot(0))),
        ("task", settings(Prompting(task("text")), FewShot())),
        ("thinking", settings(Prompting(thinking=Thinking(True)), FewShot())),
        ("thinking_budget", settings(Prompting(thinking=Thinking(budget=9)), FewShot())),
    ]
    for name, other in others:
        with pytest.raises(bw.ConfigError, match=f"out: .* holds a run with another {name}:"):
            other.merge(earlier, tmp_path)
