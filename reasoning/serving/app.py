"""The application of `branchwise serve`: OpenAI's routes over an Answering."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, aclosing, nullcontext

from pydantic import JsonValue

from branchwise.core.errors import BranchwiseError, MissingExtraError
from branchwise.core.sampling import Sampling
from branchwise.registry import STRATEGIES
from branchwise.serving.answering import Answering
from branchwise.serving.errors import Refused
from branchwise.serving.keys import Keys
from branchwise.serving.question import as_question, read_question
from branchwise.serving.queue import Queue
from branchwise.serving.reply import ChatCompletionBody
from branchwise.serving.request import ChatRequest
from branchwise.verifiers.registry import uses_verifier

try:
    from fastapi import FastAPI
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, Response

    from branchwise.serving.connection import (
        GONE,
        EventStream,
        chat_response,
        question_response,
        read_json,
        refusal,
        while_connected,
    )
    from branchwise.serving.metrics import Metrics
    from branchwise.serving.middleware import Gate
except ImportError as error:
    raise MissingExtraError(error.name or "fastapi", "server") from error


class Service:
    """What stands behind the routes."""

    def __init__(self, answering: Answering, queue: Queue, metrics: Metrics) -> None:
        """`answering` should have `metrics` among its observers."""
        self.answering, self.queue, self.metrics = answering, queue, metrics
        self._since = int(time.time())

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        try:
            return chat_response(await self._answered(ChatRequest.read(await self._body(request)), request))
        except ClientDisconnect:
            return Response(status_code=GONE)

    async def question(self, request: Request) -> Response:
        """POST /v1/branchwise."""
        try:
            with as_question():
                asked = read_question(await self._body(request), self._served)
                return question_response(await self._answered(asked, request))
        except ClientDisconnect:
            return Response(status_code=GONE)

    async def models(self) -> Response:
        """GET /v1/models: the model, and with @ the strategies one may ask for."""
        return JSONResponse({"object": "list", "data": [self._model(name) for name in self._names()]})

    async def model(self, name: str) -> Response:
        """GET /v1/models/{name}."""
        if name not in self._names():
            raise _no_model(name)
        return JSONResponse(self._model(name))

    async def health(self) -> Response:
        """GET /health."""
        if self.queue.draining:
            return JSONResponse({"status": "draining"}, 503)
        return JSONResponse({"status": "ok"})

    async def prometheus(self) -> Response:
        """GET /metrics."""
        return Response(self.metrics.text(), media_type=self.metrics.media_type)

    async def _body(self, request: Request) -> JsonValue:
        return await read_json(request, self.answering.limits.body_bytes)

    async def _answered(self, asked: ChatRequest, request: Request) -> ChatCompletionBody | EventStream:
        """The reply, or the stream of it once it has begun. Raises BranchwiseError, ClientDisconnect."""
        if asked.served_model != self._served:
            raise _no_model(asked.model)
        self.answering.check(asked)
        if not asked.stream:
            return await while_connected(request.receive, self._reply(asked))
        return await EventStream.begun(request.receive, self._events(asked))

    async def _reply(self, asked: ChatRequest) -> ChatCompletionBody:
        async with self.queue.turn():
            return await self.answering.reply(asked)

    async def _events(self, asked: ChatRequest) -> AsyncGenerator[str, None]:
        """Whose turn it is, is told; closing it gives the turn up, when every branch has stopped."""
        async with self.queue.turn(), aclosing(self.answering.stream(asked)) as events:
            async for event in events:
                yield event

    @property
    def _served(self) -> str:
        return self.answering.backend.capabilities.model

    def _names(self) -> list[str]:
        verifies = self.answering.verifier is not None
        able = [name for name, make in STRATEGIES.items() if verifies or not uses_verifier(make(1, Sampling()))]
        return [self._served, *(f"{self._served}@{name}" for name in able)]

    def _model(self, name: str) -> dict[str, str | int]:
        context = self.answering.backend.capabilities.context
        return {
            "id": name, "object": "model", "created": self._since, "owned_by": "branchwise", "max_model_len": context,
        }  # fmt: skip


def create_app(
    service: Service,
    *,
    keys: Keys | None = None,
    local: bool = False,
    traced: Callable[[Mapping[str, str]], AbstractContextManager[object]] = nullcontext,
) -> FastAPI:
    """The routes, behind a gate: see `Gate`. Raises MissingExtraError without the extra `server`."""
    app = FastAPI(title="branchwise", openapi_url=None, redirect_slashes=False)
    routes: dict[str, tuple[str, Callable[..., Awaitable[Response]]]] = {
        "/v1/chat/completions": ("POST", service.chat),
        "/v1/branchwise": ("POST", service.question),
        "/v1/models": ("GET", service.models),
        "/v1/models/{name:path}": ("GET", service.model),
        "/health": ("GET", service.health),
        "/metrics": ("GET", service.prometheus),
    }
    for path, (method, answer) in routes.items():
        app.add_api_route(path, answer, methods=[method], response_model=None)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(BranchwiseError, _refused)
    app.add_exception_handler(Exception, _failed)
    app.add_middleware(Gate, keys=keys, local=local, metrics=service.metrics, traced=traced)
    return app


async def _refused(request: Request, error: Exception) -> Response:
    return refusal(error)


async def _failed(request: Request, error: Exception) -> Response:
    """A fault of the server's own: whoever runs it reads where, the client that there is one."""
    return refusal(error)


async def _no_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    what = f"{request.method} {request.url.path}"
    if status == 405:
        return refusal(Refused(405, f"{what}: the method is not allowed", code="method_not_allowed"))
    return refusal(Refused(status, f"{what}: there is nothing here", code="not_found"))


def _no_model(name: str) -> Refused:
    return Refused(404, f"the model {name[:200]!r} is not served; GET /v1/models lists those that are",
                   code="model_not_found", param="model")  # fmt: skip
