"""How tasks put their questions."""

import pytest
from pydantic import BaseModel

import branchwise as bw
from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.prompts.library import TASKS, structured


class City(BaseModel):
    name: str
    people: int


@pytest.mark.parametrize("name", TASKS)
def test_a_task_asks_the_question_last_and_says_how_to_answer(name: str) -> None:
    messages = bw.task(name).render("What is it?")
    assert messages.turns[0].role == "system"
    assert messages.turns[0].content == bw.task(name).instruction
    assert messages.turns[-1] == bw.Message(role="user", content="What is it?")


def test_few_shot_examples_are_earlier_turns_and_answer_as_the_format_reads() -> None:
    task = bw.task("math-few-shot")
    turns = task.render("q").turns[1:-1]
    assert [turn.role for turn in turns] == ["user", "assistant"] * 8
    answers = [task.format.extract(turn.content) for turn in turns if turn.role == "assistant"]
    assert answers == ["6", "5", "39", "8", "9", "29", "33", "8"]


def test_a_system_turn_of_the_callers_is_kept_and_comes_first() -> None:
    asked = bw.Messages(
        turns=(bw.Message(role="system", content="You are terse."), bw.Message(role="user", content="q"))
    )
    turns = bw.task("math-few-shot").render(asked).turns
    assert turns[0].content.startswith("You are terse.\n\n")
    assert [turn.role for turn in turns].count("system") == 1


def test_the_thinking_switch_reaches_the_prompt() -> None:
    task = bw.Task(name="t", format=TASKS["math"].format, thinking=bw.Thinking(enabled=False))
    assert task.render("q").thinking is False
    assert bw.task("math").render("q").thinking is None


@pytest.mark.parametrize(("field", "value"), [("budget", 0), ("close", ""), ("closing", "no end")])
def test_thinking_is_checked_at_construction(field: str, value: object) -> None:
    with pytest.raises(bw.ConfigError, match="hinking"):
        bw.Thinking(**{field: value})  # type: ignore[arg-type]


def test_an_unknown_task_suggests_the_nearest() -> None:
    with pytest.raises(bw.ConfigError, match="did you mean choice"):
        bw.task("choise")


def test_a_structured_task_shows_the_schema() -> None:
    instruction = structured(City).render("Which city?").turns[0].content
    assert '"people"' in instruction
    assert '"integer"' in instruction


async def test_a_structured_answer_is_voted_field_by_field() -> None:
    said = [City(name=name, people=n) for name, n in [("Rome", 3), ("Rome", 2), ("Pisa", 3), ("Bari", 3), ("Rome", 1)]]
    backend = ScriptedBackend({"": [f"I think {city.model_dump_json()}" for city in said]})
    result = await bw.solve("Which?", backend, strategy=bw.SelfConsistency(5), answer_type=City)
    assert result.value == City(name="Rome", people=3)  # no path said both
    assert result.answer == '{"name":"Rome","people":3}'
    assert result.confidence is not None
    assert 0.5 < result.confidence < 1


async def test_a_structured_answer_that_no_path_gives_is_none() -> None:
    backend = ScriptedBackend({"": ['{"name": "Rome"}', "Rome, I guess"]})
    result = await bw.solve("Which?", backend, strategy=bw.SelfConsistency(4), answer_type=City)
    assert (result.answer, result.value, result.outcome) == (None, None, bw.Outcome.NO_ANSWER)
