"""The OpenAPI description of the server's routes. Bodies are read by hand, so FastAPI does not know them."""

from collections.abc import Mapping, Sequence

from fastapi import FastAPI
from pydantic import BaseModel, JsonValue

from branchwise.serving.native import KEY
from branchwise.serving.request import ChatRequest, StrategyOptions
from branchwise.serving.routes import CHAT_PATH, NATIVE_PATH

_REFERENCE = "#/components/schemas/{model}"

ERRORS: dict[int | str, dict[str, str]] = {
    400: {"description": "The request is invalid."},
    401: {"description": "The API key is missing or wrong."},
    413: {"description": "The body is too large."},
    415: {"description": "The body is not JSON."},
    429: {"description": "The queue is full, or the key's quota is used up."},
    503: {"description": "The server is shutting down."},
}
"""Description of each error by status."""


def _body(schema: str) -> dict[str, JsonValue]:
    content: JsonValue = {"application/json": {"schema": {"$ref": _REFERENCE.format(model=schema)}}}
    return {"requestBody": {"required": True, "content": content}}


BODIES = {CHAT_PATH: _body("ChatRequest"), NATIVE_PATH: _body("Question")}
"""Description of a route's body by path."""


def describe(app: FastAPI, models: Sequence[str]) -> None:
    """Add the schemas of the bodies to the description. Call it once all routes are added.

    `models` are the names that requests may give.
    """
    app.openapi().setdefault("components", {}).setdefault("schemas", {}).update(_schemas(models))  # FastAPI keeps it


def _schemas(models: Sequence[str]) -> Mapping[str, JsonValue]:
    """Return the schema of each body, and those it refers to, by name."""
    schemas: dict[str, JsonValue] = {}
    chat, options = (_properties(model, schemas) for model in (ChatRequest, StrategyOptions))
    shared: dict[str, JsonValue] = {name: field for name, field in chat.items() if name != KEY}
    shared["model"] = {"type": "string", "enum": list(models)}
    question: JsonValue = {"type": "string", "description": "Replaces `messages`."}
    schemas["ChatRequest"] = {
        "type": "object",
        "required": ["model", "messages"],
        "properties": {**shared, KEY: chat[KEY]},
    }
    schemas["Question"] = {"type": "object", "properties": {"question": question, **shared, **options}}
    return schemas


def _properties(model: type[BaseModel], schemas: dict[str, JsonValue]) -> Mapping[str, JsonValue]:
    """Return the properties of a model's schema; those it refers to are added to `schemas`."""
    schema: dict[str, dict[str, JsonValue]] = model.model_json_schema(ref_template=_REFERENCE)
    schemas.update(schema.get("$defs", {}))
    return schema["properties"]
