"""Plugin for `vllm serve`: strategies answer the chat completions that request one.

    VLLM_PLUGINS=branchwise vllm serve Qwen/Qwen2.5-7B-Instruct

`POST /v1/chat/completions` without a key `branchwise` stays vLLM's own. With the key, a strategy answers over the
running engine; `POST /v1/branchwise` takes the key's fields at the top level and returns the whole result. Both routes
have the dependencies, the load tracking and the middleware of vLLM's own; plugin_settings.py has the operator's limits.
"""

import asyncio
import logging
import os
import time
from argparse import Namespace
from collections.abc import Awaitable, Callable, Coroutine

from pydantic import JsonValue

from branchwise.backends.vllm.backend import VLLMBackend
from branchwise.core.errors import BranchwiseError, ConfigError, MissingExtraError
from branchwise.driver import together
from branchwise.observability.logs import emit
from branchwise.observability.observers import telemetry, trace_context
from branchwise.serving.completions import ChatCompletions
from branchwise.serving.errors import HTTPError, unknown_model
from branchwise.serving.native import KEY
from branchwise.serving.plugin_settings import PluginSettings
from branchwise.serving.queue import RequestQueue
from branchwise.serving.request import ChatRequest

try:
    from fastapi import FastAPI, Request
    from fastapi.responses import Response
    from fastapi.routing import APIRoute
    from prometheus_client import REGISTRY
    from starlette.datastructures import State
    from starlette.requests import ClientDisconnect
    from vllm.engine.protocol import EngineClient
    from vllm.entrypoints.serve.utils.api_utils import load_aware_call
    from vllm.lora.request import LoRARequest

    from branchwise.serving.connection import CLIENT_CLOSED_REQUEST, error_response
    from branchwise.serving.metrics import Metrics
    from branchwise.serving.routes import CHAT_PATH, NATIVE_PATH, ChatRoutes
except ImportError as error:
    raise MissingExtraError(error.name or "vllm", "vllm") from error

log = logging.getLogger("branchwise.plugin")
access_log = logging.getLogger("branchwise.access")


class EngineModels:
    """The models of the engine, the base model and its LoRA adapters, with one queue and the metrics of all."""

    def __init__(self, client: EngineClient, state: State) -> None:
        """Call it in the engine's event loop. Raises ConfigError for invalid settings of the operator."""
        settings = PluginSettings.read(os.environ)
        self._client = client
        self._models = state.openai_serving_models
        self._loop = asyncio.get_running_loop()
        self._limits = settings.limits
        self._queue = RequestQueue(self._limits)
        # vLLM's /metrics reads this registry, or the files of all processes that its collectors write.
        self.metrics = Metrics(self._queue, REGISTRY)
        self._observer = together(self.metrics, telemetry(spans=settings.spans, logs=settings.log_format))
        self.traced = trace_context(spans=settings.spans)
        chat = state.openai_serving_chat  # has the chat template that the operator chose
        self._template: str | None = getattr(chat, "chat_template", None)
        self._variables: dict[str, JsonValue] = dict(getattr(chat, "default_chat_template_kwargs", None) or {})
        self._base = self._completions(None)
        self._adapters: dict[str, ChatCompletions] = {}
        self.routes = ChatRoutes(self, self._limits.body_bytes, lambda client: self._queue.turn())

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
        return ChatCompletions(backend, self._limits, observer=self._observer)


class ChatRoute(APIRoute):
    """vLLM's chat route, except for requests with the key `branchwise`, which a strategy answers.

    The body of all other requests is searched for the key and left to vLLM as it is.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[None, None, Response]]:
        core = super().get_route_handler()
        strategies = APIRoute(self.path, _answer_chat, methods=["POST"], dependencies=self.dependencies)
        answer = strategies.get_route_handler()

        async def handle(request: Request) -> Response:
            return await (answer if await _names_strategy(request) else core)(request)

        return handle


async def _names_strategy(request: Request) -> bool:
    """Return whether the body has the key `branchwise`, with another value than null."""
    if KEY.encode() not in await request.body():
        return False
    try:
        body = await request.json()
    except (ValueError, RecursionError):  # vLLM's own route says so
        return False
    return isinstance(body, dict) and body.get(KEY) is not None


class Plugin:
    """vLLM's `EndpointPlugin`."""

    name = "branchwise"
    required_tasks = ("generate",)

    def attach_router(self, app: FastAPI) -> None:
        """Replace the chat route, and add the native one."""
        core = _core_route(app)
        app.router.routes.append(
            ChatRoute(
                CHAT_PATH,
                core.endpoint,
                methods=["POST"],
                dependencies=core.dependencies,
                responses=core.responses,
                response_model=core.response_model,
            )
        )
        app.add_api_route(
            NATIVE_PATH, _answer_native, methods=["POST"], dependencies=core.dependencies, response_model=None
        )

    async def init_state(self, engine_client: EngineClient | None, state: State, args: Namespace) -> None:
        """Set up the models; a server that only renders prompts has no engine."""
        if engine_client is not None:
            state.branchwise = EngineModels(engine_client, state)


def _core_route(app: FastAPI) -> APIRoute:
    """Return vLLM's own chat route. Raises ConfigError if this version of vLLM keeps it elsewhere."""
    for route in app.routes:
        if isinstance(route, APIRoute) and route.path == CHAT_PATH:
            return route
    raise ConfigError(
        "VLLM_PLUGINS", f"has branchwise, but this vLLM has no route {CHAT_PATH}", "use vLLM 0.19 to 0.32"
    )


async def _answer_chat(raw_request: Request) -> Response:
    """Answer a chat completion by a strategy."""
    return await _answer(raw_request, CHAT_PATH, lambda models: models.routes.chat(raw_request))


async def _answer_native(raw_request: Request) -> Response:
    """Answer a question with the whole result."""
    return await _answer(raw_request, NATIVE_PATH, lambda models: models.routes.native(raw_request))


async def _answer(raw_request: Request, route: str, answer: Callable[[EngineModels], Awaitable[Response]]) -> Response:
    """Return the answer, or the response for what it raises; count and log the request."""
    models: EngineModels | None = getattr(raw_request.app.state, "branchwise", None)
    if models is None:
        return error_response(HTTPError(501, "this server has no engine, and so no strategies", code="no_engine"))
    start = time.monotonic()

    async def run(request: None, raw_request: Request) -> Response:
        try:
            with models.traced(raw_request.headers):
                return await answer(models)
        except Exception as error:
            return _error_response(error)

    tracked: Callable[[None, Request], Awaitable[Response]] = load_aware_call(run)
    response = await tracked(None, raw_request)
    models.metrics.count_request(route, response.status_code)
    fields: dict[str, JsonValue] = {
        "method": "POST",
        "route": route,
        "status": response.status_code,
        "seconds": round(time.monotonic() - start, 3),
    }
    emit(access_log, logging.INFO, "request", fields)
    return response


def _error_response(error: Exception) -> Response:
    """Return the response for an error, in place of vLLM's own exception handlers."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    if not isinstance(error, BranchwiseError):
        log.exception("a request failed", exc_info=error)
    return error_response(error)
