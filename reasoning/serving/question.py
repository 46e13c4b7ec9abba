"""POST /v1/branchwise: a question, and everything that came of it.

The fields of the key `branchwise` are at the top level of the body, `question` may stand for `messages`, and the reply
is the result with every path and their tree.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import JsonValue

from branchwise.core.errors import ConfigError, require
from branchwise.serving.reply import ChatCompletionBody
from branchwise.serving.request import ChatRequest, Strategised

KEY = "branchwise"


@contextmanager
def as_question() -> Iterator[None]:
    """Calls the field of a ConfigError what such a body calls it."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(error.field.removeprefix(f"{KEY}."), error.problem, error.fix) from error


def read_question(body: JsonValue, model: str) -> ChatRequest:
    """A body with the key's fields at the top level, `question` instead of `messages`, and maybe no `model`.

    Raises ConfigError.
    """
    if not isinstance(body, dict):
        raise ConfigError("body", "is no JSON object", "send one")
    require(KEY not in body, KEY, "is no key here", "put its fields at the top level")
    chat = {"model": model} | {name: value for name, value in body.items() if name not in Strategised.model_fields}
    key = {"details": True} | {name: value for name, value in body.items() if name in Strategised.model_fields}
    question = chat.pop("question", None)
    if question is not None:
        require("messages" not in chat, "question", "is given beside messages", "leave one of them out")
        require(isinstance(question, str), "question", "is no text", "send text, or messages")
        chat["messages"] = [{"role": "user", "content": question}]
    require("messages" in chat, "question", "is missing", "send a question, or messages")
    return ChatRequest.read({**chat, KEY: key})


def whole(reply: ChatCompletionBody) -> dict[str, JsonValue]:
    """The reply's own form here."""
    message = reply.choices[0].message.model_dump(mode="json", exclude_unset=True)
    return {"id": reply.id, "object": KEY, "model": reply.model, "message": message, **reply.branchwise}
