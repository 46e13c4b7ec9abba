"""Questions as text, messages and lists of messages, and the errors for everything else."""

import datetime
from decimal import Decimal

import pytest
from pydantic import BaseModel, JsonValue

from branchwise.core.errors import ConfigError
from branchwise.core.messages import Message, Messages
from branchwise.core.question import Question, as_messages

USER = {"role": "user", "content": "What is 6 times 7?"}
PARTS = [{"type": "text", "text": "What is"}, {"type": "input_text", "text": "6 times 7?"}, "Be quick."]
CALL = {"id": "c", "type": "function", "function": {"name": "add", "arguments": "{}"}}


class ClientMessage(BaseModel):
    """A message as the OpenAI client returns it."""

    role: str = "assistant"
    content: str | None = "42"
    refusal: str | None = None
    tool_calls: list[object] | None = None


def test_text_becomes_a_user_turn() -> None:
    assert as_messages("Why?").turns == (Message(role="user", content="Why?"),)


def test_a_list_of_messages_is_a_question() -> None:
    messages = as_messages([{"role": "developer", "content": "Be brief."}, USER])
    assert messages.turns == (
        Message(role="system", content="Be brief."),
        Message(role="user", content=USER["content"]),
    )
    assert as_messages((Message(role="user", content="Why?"),)) == as_messages("Why?")


def test_content_parts_are_joined() -> None:
    (turn,) = as_messages([{"role": "user", "content": PARTS}]).turns
    assert turn.content == "What is\n6 times 7?\nBe quick."


def test_the_last_answer_opens_the_reply() -> None:
    messages = as_messages([USER, ClientMessage(content="It is")])  # type: ignore[list-item]
    assert (len(messages.turns), messages.prefix) == (1, "It is")


def test_tool_calls_and_results_are_kept() -> None:
    result = {"role": "tool", "content": "2", "tool_call_id": "c"}
    turns = as_messages([USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}, result]).turns
    assert [(turn.role, len(turn.tool_calls)) for turn in turns] == [("user", 0), ("assistant", 1), ("tool", 0)]


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
            "content: has a part of type 'im",
        ),
        (
            {"role": "user", "content": [{"type": "input_audio"}]},
            "content: has a part of type 'input_audio'; send text",
        ),
        ({"role": "user", "content": [{"type": "text"}]}, "content: has a part of type 'text'"),
        ({"role": "user", "content": 42}, "content: is 42; Input should be a valid string"),
        ({"role": "robot", "content": "Hi"}, "role: is 'robot'"),
        ({"content": "Hi"}, "role: is missing; add it"),
        ({"role": "assistant", "tool_calls": [{"id": "c", "type": "function"}]}, "tool_calls.0.function: is missing"),
    ],
)
def test_an_invalid_message_is_named(message: dict[str, object], error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        as_messages([USER, message])
    assert str(caught.value).startswith(f"question.1.{error}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value", [42, 4.2, True, None, b"Why?", {"role": "user"}, Decimal(1), datetime.date(2026, 1, 1)]
)
def test_a_value_that_is_no_question_is_explained(value: Question) -> None:
    with pytest.raises(ConfigError, match=r"^question: is .*, of type \w+; use text, Messages, or a list of messages"):
        as_messages(value)


@pytest.mark.parametrize("value", ["Why?", 42, ("user", "Why?"), [USER], None])
def test_a_list_of_something_else_is_explained(value: object) -> None:
    with pytest.raises(ConfigError, match=r"^question\.0: is .*, of type \w+; use messages such as"):
        as_messages([value])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "value", ["", " \n", [], [{"role": "system", "content": "x"}], [{"role": "user", "content": []}]]
)
def test_a_question_without_content_is_refused(value: Question) -> None:
    with pytest.raises(ConfigError, match=r"^question: (is empty|has no mess)"):
        as_messages(value)


SCHEMA: dict[str, JsonValue] = {"type": "function", "function": {"name": "\udfff"}}


@pytest.mark.parametrize(
    "value",
    [
        "a\ud83d",
        "\ude00 is half a face",
        [{"role": "user", "content": "\ud800"}],
        Messages(turns=(Message(role="user", content="a\udcff"),)),
        Messages(turns=(Message(role="user", content="a"),), prefix="\ud83d"),
        Messages(turns=(Message(role="user", content="a"),), tools=(SCHEMA,)),
    ],
)
def test_half_a_character_is_refused(value: Question) -> None:
    with pytest.raises(
        ConfigError, match=r"^question: has half a character \(\\ud[89a-f]..,.*\); send whole characters$"
    ):
        as_messages(value)


@pytest.mark.parametrize("value", ["\U0001f600", "e\u0301", "\ufffd", "\x00"])
def test_whole_characters_are_accepted(value: str) -> None:
    assert as_messages(value).turns[0].content == value
