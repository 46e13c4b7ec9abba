"""A plugin for `vllm serve`: its chat completions answered by strategies, where a request asks for one.

    VLLM_PLUGINS=branchwise vllm serve Qwen/Qwen2.5-7B-Instruct

`POST /v1/chat/completions` without a key `branchwise` is vLLM's own, unchanged. With the key, a strategy answers over
the running engine; `POST /v1/branchwise` takes the key's fields at the top level and returns the whole result. The
operator's limits are environment variables: BRANCHWISE_MAX_PATHS, BRANCHWISE_MAX_TOKENS and BRANCHWISE_MAX_SECONDS.
"""

import asyncio
import functools
import logging
import os
from argparse import Namespace
from collections.abc import Awaitable, Callable, Mapping

from pydantic import JsonValue

from branchwise.backends.vllm.backend import VLLMBackend
from branchwise.core.errors import BranchwiseError, MissingExtraError, require
from branchwise.serving.answering import Answering
from branchwise.serving.errors import Refused
from branchwise.serving.limits import Limits
from branchwise.serving.question import KEY, as_question, read_question
from branchwise.serving.reply import ChatCompletionBody
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

    from branchwise.serving.connection import (
        GONE,
        EventStream,
        chat_response,
        question_response,
        read_json,
        refusal,
        while_connected,
    )
except ImportError as error:
    raise MissingExtraError(error.name or "vllm", "vllm") from error

CHAT, QUESTION = "/v1/chat/completions", "/v1/branchwise"

log = logging.getLogger(__name__)

Handler = Callable[..., Awaitable[Response]]


def limits(environment: Mapping[str, str]) -> Limits:
    """What the operator allows. Raises ConfigError naming the variable."""
    usual = Limits()
    paths = _number(environment, "BRANCHWISE_MAX_PATHS", usual.paths)
    tokens = _number(environment, "BRANCHWISE_MAX_TOKENS", usual.tokens)
    seconds = _number(environment, "BRANCHWISE_MAX_SECONDS", usual.seconds)
    for name, value in (("BRANCHWISE_MAX_PATHS", paths), ("BRANCHWISE_MAX_TOKENS", tokens)):
        require(value == int(value), name, f"is {value}", "use a whole number")
    return Limits(paths=int(paths), tokens=int(tokens), seconds=seconds)


def _number(environment: Mapping[str, str], name: str, usual: float) -> float:
    text = environment.get(name, "")
    if not text:
        return usual
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    require(0 < value < float("inf"), name, f"is {text!r}", "use a positive number")
    return value


class Service:
    """Answers requests over the server's engine: the model's, and those for its LoRA adapters."""

    def __init__(self, client: EngineClient, state: State) -> None:
        """In the engine's event loop. Raises ConfigError for limits that make no sense."""
        self._client, self._models = client, state.openai_serving_models
        self._loop = asyncio.get_running_loop()
        self.limits = limits(os.environ)
        chat = state.openai_serving_chat  # the templates are the operator's choice
        self._template: str | None = getattr(chat, "chat_template", None)
        self._variables: dict[str, JsonValue] = dict(getattr(chat, "default_chat_template_kwargs", None) or {})
        self._base = self._over(None)
        self._adapted: dict[str, Answering] = {}

    @property
    def model(self) -> str:
        """The name it is served under."""
        return str(self._models.base_model_paths[0].name)

    async def answering(self, model: str) -> Answering:
        """Who answers for `model`. Raises Refused."""
        if self._models.is_base_model(model):
            return self._base
        adapter = self._models.lora_requests.get(model)
        if adapter is None:
            raise Refused(404, f"the model {model!r} does not exist", code="model_not_found", param="model")
        name = f"{adapter.lora_name}-{adapter.lora_int_id}"  # an adapter that is loaded again has another number
        if name not in self._adapted:
            self._adapted[name] = await asyncio.to_thread(self._over, adapter)
        return self._adapted[name]

    def _over(self, adapter: LoRARequest | None) -> Answering:
        backend = VLLMBackend(
            self._client,
            loop=self._loop,
            name=str(adapter.lora_name) if adapter else self.model,
            chat_template=self._template,
            template_variables=self._variables,
            adapter=adapter,
        )
        return Answering(backend, self.limits)


class Plugin:
    """vLLM's `EndpointPlugin`."""

    name = "branchwise"
    required_tasks = ("generate",)

    def attach_router(self, app: FastAPI) -> None:
        """Own the chat route, and add ours."""
        core = next(route for route in app.routes if isinstance(route, APIRoute) and route.path == CHAT)
        app.add_api_route(
            CHAT,
            _chat_route(core.endpoint),
            methods=["POST"],
            dependencies=core.dependencies,
            responses=core.responses,
            response_model=core.response_model,
        )
        app.add_api_route(QUESTION, _answer_question, methods=["POST"], response_model=None)

    async def init_state(self, engine_client: EngineClient | None, state: State, args: Namespace) -> None:
        if engine_client is not None:  # a server that only renders has none
            state.branchwise = Service(engine_client, state)


def _chat_route(core: Handler) -> Handler:
    """The chat route: vLLM's own `core`, unless the body has the key."""
    answer: Handler = load_aware_call(_answer_chat)

    @functools.wraps(core)  # its signature too: the body is read and checked as it was
    async def create_chat_completion(request: object, raw_request: Request) -> Response:
        if (getattr(request, "model_extra", None) or {}).get(KEY) is None:
            return await core(request=request, raw_request=raw_request)
        return await answer(request, raw_request)

    return create_chat_completion


async def _answer_chat(request: object, raw_request: Request) -> Response:
    """A chat completion by a strategy. `request` is the body as vLLM reads it; here it is read anew."""
    service: Service = raw_request.app.state.branchwise
    try:
        asked = ChatRequest.read(await raw_request.json())
        return chat_response(await _answered(service, asked, raw_request))
    except Exception as error:
        return _failed(error)


async def _answer_question(raw_request: Request) -> Response:
    """The whole result for a question."""
    service: Service = raw_request.app.state.branchwise
    try:
        body = await read_json(raw_request, service.limits.body_bytes)
        with as_question():
            return question_response(await _answered(service, read_question(body, service.model), raw_request))
    except Exception as error:
        return _failed(error)


async def _answered(service: Service, asked: ChatRequest, raw_request: Request) -> ChatCompletionBody | EventStream:
    """The reply, or the stream of it once it has begun. Cancelled where the client goes away.

    Raises BranchwiseError, ClientDisconnect.
    """
    answering = await service.answering(asked.served_model)
    if not asked.stream:
        return await while_connected(raw_request.receive, answering.reply(asked))
    return await EventStream.begun(raw_request.receive, answering.stream(asked))


def _failed(error: Exception) -> Response:
    """What a client is told of an error."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=GONE)
    if not isinstance(error, BranchwiseError):
        log.exception("a request failed", exc_info=error)
    return refusal(error)
