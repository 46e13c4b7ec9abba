"""Questions: plain text, messages, or a list of messages in OpenAI's JSON, and the prompt they become."""

import json
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ValidationError

from branchwise.core.errors import ConfigError, require
from branchwise.core.message_json import MessageBody
from branchwise.core.messages import Message, Messages
from branchwise.core.validation import first_field_error, shortened, wrong_type

Question = str | Messages | Sequence[Mapping[str, object] | Message]
"""Plain text, `Messages`, or a list of messages such as `{"role": "user", "content": "What is 6 times 7?"}`."""


def as_messages(question: Question) -> Messages:
    """Return the question as messages: plain text becomes one user turn.

    If the assistant has the last turn of a list, its text opens the answer. Raises ConfigError if the question has
    another type, no content, a message that the model can't read, or half a character.
    """
    if isinstance(question, str):
        require(bool(question.strip()), "question", "is empty", "ask something")
        prompt = Messages(turns=(Message(role="user", content=question),))
    elif isinstance(question, Messages):
        prompt = question
    elif isinstance(question, Sequence) and not isinstance(question, bytes | bytearray | memoryview):
        prompt = as_prompt([_read_message(index, message) for index, message in enumerate(question)])
    else:
        fix = 'use text, Messages, or a list of messages such as [{"role": "user", "content": "..."}]'
        raise wrong_type("question", question, fix)
    require(bool(prompt.turns), "question", "has no messages", "add at least one user message")
    require(
        any(turn.content.strip() or turn.tool_calls for turn in prompt.turns if turn.role != "system"),
        "question",
        "has no message with content",
        "ask something",
    )
    _check_characters(prompt)
    return prompt


def as_prompt(turns: Sequence[Message]) -> Messages:
    """Return the prompt of a chat. If the assistant has the last turn, its text opens the answer."""
    if turns and turns[-1].role == "assistant":
        return Messages(turns=tuple(turns[:-1]), prefix=turns[-1].content)
    return Messages(turns=tuple(turns))


def _read_message(index: int, message: object) -> Message:
    """Return a message of a list. Raises ConfigError with its place if the model can't read it."""
    place = f"question.{index}"
    if isinstance(message, Message):
        return message
    if isinstance(message, BaseModel):  # the OpenAI client's own
        message = message.model_dump(exclude_none=True)
    if not isinstance(message, Mapping):
        raise wrong_type(place, message, 'use messages such as {"role": "user", "content": "..."}')
    try:
        return MessageBody.model_validate(dict(message)).message()
    except ValidationError as error:
        first = first_field_error(error)
    field = f"{place}.{first.field}"
    if isinstance(first.cause, ConfigError):
        raise ConfigError(field, first.cause.problem, first.cause.fix)
    if first.kind == "missing":
        raise ConfigError(field, "is missing", "add it")
    raise ConfigError(field, f"is {shortened(first.value)}", first.message)


def _check_characters(prompt: Messages) -> None:
    """Raise ConfigError for half a character, which no tokenizer can encode."""
    try:
        json.dumps(prompt.model_dump(), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise ConfigError(
            "question", f"has half a character ({half}, a lone surrogate)", "send whole characters"
        ) from error
