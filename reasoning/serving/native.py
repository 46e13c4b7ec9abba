"""The body of POST /v1/branchwise: a question in, the whole result out.

The fields of the key `branchwise` are at the top level, `question` may replace `messages`, and the reply is the result
with every path and the tree.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import JsonValue

from branchwise.core.errors import ConfigError, require
from branchwise.serving.completion import ChatCompletionBody
from branchwise.serving.request import ChatRequest, StrategyOptions

KEY = "branchwise"


@contextmanager
def native_field_names() -> Iterator[None]:
    """Rename the field of a ConfigError from its name in a chat request to its name in a native request."""
    try:
        yield
    except ConfigError as error:
        raise error.renamed(error.field.removeprefix(f"{KEY}.")) from error


def parse_native_request(body: JsonValue, model: str) -> ChatRequest:
    """Return a native body as a chat request; `model` is the default. Raises ConfigError."""
    if not isinstance(body, dict):
        raise ConfigError("body", "is not a JSON object", "send one")
    require(KEY not in body, KEY, "is not a key of this route", "put its fields at the top level")
    chat = {"model": model} | {name: value for name, value in body.items() if name not in StrategyOptions.model_fields}
    options = {"details": True} | {name: value for name, value in body.items() if name in StrategyOptions.model_fields}
    question = chat.pop("question", None)
    if question is not None:
        require("messages" not in chat, "question", "is given together with messages", "leave one of them out")
        require(isinstance(question, str), "question", "is not text", "send text, or messages")
        chat["messages"] = [{"role": "user", "content": question}]
    require("messages" in chat, "question", "is missing", "send a question, or messages")
    return ChatRequest.parse({**chat, KEY: options})


def native_body(reply: ChatCompletionBody) -> dict[str, JsonValue]:
    """Return a reply in the form of this route."""
    message = reply.choices[0].message.model_dump(mode="json", exclude_unset=True)
    return {"id": reply.id, "object": KEY, "model": reply.model, "message": message, **reply.branchwise}
