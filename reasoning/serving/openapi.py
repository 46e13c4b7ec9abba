"""The OpenAPI description of the server's routes. Bodies are read by hand, so FastAPI does not know them."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from branchwise.serving.native import KEY
from branchwise.serving.request import ChatRequest, StrategyOptions
from branchwise.serving.routes import CHAT_PATH, NATIVE_PATH

_REFERENCE = "#/components/schemas/{model}"
_ERRORS = {
    "400": "The request is invalid.",
    "401": "The API key is missing or wrong.",
    "413": "The body is too large.",
    "415": "The body is not JSON.",
    "429": "The queue is full, or the key's quota is used up.",
    "503": "The server is shutting down.",
}

Schema = dict[str, Any]


def describe(app: FastAPI, models: Sequence[str]) -> None:
    """Add the bodies and errors of the routes to /openapi.json. `models` are the names that requests may give."""

    def openapi() -> Schema:
        if app.openapi_schema is None:
            app.openapi_schema = _openapi(app, models)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI documents it


def _openapi(app: FastAPI, models: Sequence[str]) -> Schema:
    schema: Schema = get_openapi(title="branchwise", version=version("branchwise"), routes=app.routes)
    components: Schema = schema.setdefault("components", {}).setdefault("schemas", {})
    chat, options = (model.model_json_schema(ref_template=_REFERENCE) for model in (ChatRequest, StrategyOptions))
    for body in (chat, options):
        components.update(body.pop("$defs", {}))
    chat["properties"]["model"]["enum"] = list(models)
    components["ChatRequest"] = chat
    shared = {name: field for name, field in chat["properties"].items() if name != KEY}
    question = {"type": "string", "description": "Replaces `messages`."}
    components["Question"] = {"type": "object", "properties": {"question": question, **shared, **options["properties"]}}
    for path, name in ((CHAT_PATH, "ChatRequest"), (NATIVE_PATH, "Question")):
        operation: Schema = schema["paths"][path]["post"]
        body = {"schema": {"$ref": _REFERENCE.format(model=name)}}
        operation["requestBody"] = {"required": True, "content": {"application/json": body}}
    for operations in schema["paths"].values():
        for operation in operations.values():
            operation["responses"].update({status: {"description": text} for status, text in _ERRORS.items()})
    return schema
