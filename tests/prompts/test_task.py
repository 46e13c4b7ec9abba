"""Tasks: rendering of prompts, lookup by name, and structured answers."""

import pytest
from pydantic import BaseModel

import branchwise as bw
from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.prompts.library import TASKS, structured


class City(BaseModel):
    name: str
    people: int


@pytest.mark.parametrize("name", sorted(set(TASKS) - {"free-form"}))
def test_question_comes_last_after_the_instruction(name: str) -> None:
    messages = bw.task(name).render("What is it?")
    assert messages.turns[0].role == "system"
    assert messages.turns[0].content == bw.task(name).instruction
    assert messages.turns[-1] == bw.Message(role="user", content="What is it?")


def test_a_free_form_prompt_is_the_question_alone() -> None:
    turns = bw.task("free-form").render("What is it?").turns
    assert turns == (bw.Message(role="user", content="What is it?"),)


def test_exemplars_are_earlier_turns_with_extractable_answers() -> None:
    task = bw.task("math-few-shot")
    turns = task.render("q").turns[1:-1]
    assert [turn.role for turn in turns] == ["user", "assistant"] * 8
    answers = [task.format.extract(turn.content) for turn in turns if turn.role == "assistant"]
    assert answers == ["6", "5", "39", "8", "9", "29", "33", "8"]


def test_system_turn_of_the_caller_is_kept_first() -> None:
    messages = bw.Messages(
        turns=(bw.Message(role="system", content="You are terse."), bw.Message(role="user", content="q"))
    )
    turns = bw.task("math-few-shot").render(messages).turns
    assert turns[0].content.startswith("You are terse.\n\n")
    assert [turn.role for turn in turns].count("system") == 1


def test_thinking_switch_is_part_of_the_prompt() -> None:
    task = bw.Task(name="t", format=TASKS["math"].format, thinking=bw.Thinking(enabled=False))
    assert task.render("q").thinking is False
    assert bw.task("math").render("q").thinking is None


@pytest.mark.parametrize(("field", "value"), [("budget", 0), ("close", ""), ("closing", "no end")])
def test_invalid_thinking_settings_are_rejected(field: str, value: object) -> None:
    with pytest.raises(bw.ConfigError, match="hinking"):
        bw.Thinking(**{field: value})  # type: ignore[arg-type]


def test_unknown_task_suggests_the_closest_name() -> None:
    with pytest.raises(bw.ConfigError, match="did you mean choice"):
        bw.task("choise")


def test_structured_task_includes_the_json_schema() -> None:
    instruction = structured(City).render("Which city?").turns[0].content
    assert '"people"' in instruction
    assert '"integer"' in instruction


async def test_structured_answers_are_voted_field_by_field() -> None:
    cities = [
        City(name=name, people=n) for name, n in [("Rome", 3), ("Rome", 2), ("Pisa", 3), ("Bari", 3), ("Rome", 1)]
    ]
    backend = ScriptedBackend({"": [f"I think {city.model_dump_json()}" for city in cities]})
    result = await bw.solve("Which?", backend, strategy=bw.SelfConsistency(5), answer_type=City)
    assert result.value == City(name="Rome", people=3)  # no path states both
    assert result.answer == '{"name":"Rome","people":3}'
    assert result.confidence is not None
    assert 0.5 < result.confidence < 1


async def test_structured_answer_is_none_without_valid_objects() -> None:
    backend = ScriptedBackend({"": ['{"name": "Rome"}', "Rome, I guess"]})
    result = await bw.solve("Which?", backend, strategy=bw.SelfConsistency(4), answer_type=City)
    assert (result.answer, result.value, result.outcome) == (None, None, bw.Outcome.NO_ANSWER)
