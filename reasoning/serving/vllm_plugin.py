"""Plugin for `vllm serve`: strategies answer the chat completions that request one.

    VLLM_PLUGINS=branchwise vllm serve Qwen/Qwen2.5-7B-Instruct

`POST /v1/chat/completions` without a key `branchwise` stays vLLM's own. With the key, a strategy answers over the
running engine; `POST /v1/branchwise` takes the key's fields at the top level and returns the whole result. The operator
sets limits by the environment variables BRANCHWISE_MAX_PATHS, BRANCHWISE_MAX_TOKENS and BRANCHWISE_MAX_SECONDS.
"""

import asyncio
import functools
import logging
import os
from argparse import Namespace
from collections.abc import Awaitable, Callable, Mapping

from pydantic import JsonValue

from branchwise.backends.vllm.backend import VLLMBackend
from branchwise.chat.limits import Limits
from branchwise.core.errors import BranchwiseError, MissingExtraError, require
from branchwise.serving.completions import ChatCompletions
from branchwise.serving.errors import unknown_model
from branchwise.serving.native import KEY
from branchwise.serving.request import ChatRequest

try:
    from fastapi import FastAPI, Request
    from fastapi.responses import Response
    from fastapi.routing import APIRoute
    from starlette.datastructures import State
    from starlette.requests import ClientDisconnect
    from vllm.engine.protocol import EngineClient
    from vllm.entrypoints.serve.utils.api_utils import load_aware_call
    from vllm.lora.request import LoRARequest

    from branchwise.serving.connection import CLIENT_CLOSED_REQUEST, error_response
    from branchwise.serving.routes import CHAT_PATH, NATIVE_PATH, ChatRoutes
except ImportError as error:
    raise MissingExtraError(error.name or "vllm", "vllm") from error

log = logging.getLogger(__name__)

Endpoint = Callable[..., Awaitable[Response]]


def limits_from(environment: Mapping[str, str]) -> Limits:
    """Return the limits that the operator set. Raises ConfigError with the name of the variable."""
    defaults = Limits()
    paths = _number(environment, "BRANCHWISE_MAX_PATHS", defaults.paths)
    tokens = _number(environment, "BRANCHWISE_MAX_TOKENS", defaults.tokens)
    seconds = _number(environment, "BRANCHWISE_MAX_SECONDS", defaults.seconds)
    for name, value in (("BRANCHWISE_MAX_PATHS", paths), ("BRANCHWISE_MAX_TOKENS", tokens)):
        require(value == int(value), name, f"is {value}", "use a whole number")
    return Limits(paths=int(paths), tokens=int(tokens), seconds=seconds)


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name, "")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    require(0 < value < float("inf"), name, f"is {text!r}", "use a positive number")
    return value


class EngineModels:
    """The models of the engine: the base model and its LoRA adapters."""

    def __init__(self, client: EngineClient, state: State) -> None:
        """Call it in the engine's event loop. Raises ConfigError for invalid limits."""
        self._client = client
        self._models = state.openai_serving_models
        self._loop = asyncio.get_running_loop()
        self._limits = limits_from(os.environ)
        chat = state.openai_serving_chat  # has the chat template that the operator chose
        self._template: str | None = getattr(chat, "chat_template", None)
        self._variables: dict[str, JsonValue] = dict(getattr(chat, "default_chat_template_kwargs", None) or {})
        self._base = self._completions(None)
        self._adapters: dict[str, ChatCompletions] = {}
        self.routes = ChatRoutes(self, self._limits.body_bytes)

    @property
    def default_model(self) -> str:
        return str(self._models.base_model_paths[0].name)

    async def completions_for(self, request: ChatRequest) -> ChatCompletions:
        model = request.served_model
        if self._models.is_base_model(model):
            return self._base
        adapter = self._models.lora_requests.get(model)
        if adapter is None:
            raise unknown_model(model)
        key = f"{adapter.lora_name}-{adapter.lora_int_id}"  # a reloaded adapter has a new id
        if key not in self._adapters:
            self._adapters[key] = await asyncio.to_thread(self._completions, adapter)
        return self._adapters[key]

    def _completions(self, adapter: LoRARequest | None) -> ChatCompletions:
        backend = VLLMBackend(
            self._client,
            loop=self._loop,
            name=str(adapter.lora_name) if adapter else self.default_model,
            chat_template=self._template,
            template_variables=self._variables,
            adapter=adapter,
        )
        return ChatCompletions(backend, self._limits)


class Plugin:
    """vLLM's `EndpointPlugin`."""

    name = "branchwise"
    required_tasks = ("generate",)

    def attach_router(self, app: FastAPI) -> None:
        """Replace the chat route, and add the native one."""
        core = next(route for route in app.routes if isinstance(route, APIRoute) and route.path == CHAT_PATH)
        app.add_api_route(
            CHAT_PATH,
            _chat_route(core.endpoint),
            methods=["POST"],
            dependencies=core.dependencies,
            responses=core.responses,
            response_model=core.response_model,
        )
        app.add_api_route(NATIVE_PATH, _answer_native, methods=["POST"], response_model=None)

    async def init_state(self, engine_client: EngineClient | None, state: State, args: Namespace) -> None:
        """Set up the models; a server that only renders prompts has no engine."""
        if engine_client is not None:
            state.branchwise = EngineModels(engine_client, state)


def _chat_route(core: Endpoint) -> Endpoint:
    """Return the chat route, which is vLLM's own `core` unless the body has the key `branchwise`."""
    answer: Endpoint = load_aware_call(_answer_chat)

    @functools.wraps(core)  # keeps the signature, by which FastAPI reads and validates the body as before
    async def create_chat_completion(request: object, raw_request: Request) -> Response:
        if (getattr(request, "model_extra", None) or {}).get(KEY) is None:
            return await core(request=request, raw_request=raw_request)
        return await answer(request, raw_request)

    return create_chat_completion


async def _answer_chat(request: object, raw_request: Request) -> Response:
    """Answer a chat completion. `request` is the body as vLLM parsed it; it lacks fields that are needed here."""
    models: EngineModels = raw_request.app.state.branchwise
    try:
        return await models.routes.complete(ChatRequest.parse(await raw_request.json()), raw_request)
    except Exception as error:
        return _error_response(error)


async def _answer_native(raw_request: Request) -> Response:
    """Answer a question with the whole result."""
    models: EngineModels = raw_request.app.state.branchwise
    try:
        return await models.routes.native(raw_request)
    except Exception as error:
        return _error_response(error)


def _error_response(error: Exception) -> Response:
    """Return the response for an error, in place of vLLM's own exception handlers."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    if not isinstance(error, BranchwiseError):
        log.exception("a request failed", exc_info=error)
    return error_response(error)
