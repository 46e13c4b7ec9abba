"""The ASGI application of `branchwise serve`: the chat routes, the list of models, health and metrics."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from importlib.metadata import version

from branchwise.chat.errors import without_middle
from branchwise.chat.turn import Charge
from branchwise.core.errors import BranchwiseError, MissingExtraError
from branchwise.core.sampling import Sampling
from branchwise.registry import STRATEGIES
from branchwise.serving.clients import Client
from branchwise.serving.completions import ChatCompletions
from branchwise.serving.errors import HTTPError, unknown_model
from branchwise.serving.queue import RequestQueue
from branchwise.serving.request import ChatRequest
from branchwise.strategies.options import uses_verifier

try:
    from fastapi import FastAPI
    from starlette.exceptions import HTTPException
    from starlette.middleware.cors import CORSMiddleware
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, Response

    from branchwise.serving.connection import CLIENT_CLOSED_REQUEST, error_response
    from branchwise.serving.metrics import Metrics
    from branchwise.serving.middleware import AccessMiddleware, Keys
    from branchwise.serving.openapi import BODIES, ERRORS, describe
    from branchwise.serving.quotas import Quotas
    from branchwise.serving.routes import CHAT_PATH, NATIVE_PATH, ChatRoutes
except ImportError as error:
    raise MissingExtraError(error.name or "fastapi", "server") from error


class Service:
    """One model behind the routes, with its queue and metrics."""

    def __init__(self, completions: ChatCompletions, queue: RequestQueue, metrics: Metrics) -> None:
        """`metrics` should be among the observers of `completions`."""
        self.completions = completions
        self.queue = queue
        self.metrics = metrics
        self.quotas = Quotas()
        self.routes = ChatRoutes(self, completions.limits.body_bytes, self._turn)
        self._created = int(time.time())

    @property
    def default_model(self) -> str:
        return self.completions.backend.capabilities.model

    async def completions_for(self, request: ChatRequest) -> ChatCompletions:
        if request.served_model != self.default_model:
            raise unknown_model(request.model)
        return self.completions

    async def models(self) -> Response:
        """GET /v1/models: the model alone and with each strategy after @."""
        return JSONResponse({"object": "list", "data": [self._model(name) for name in self.names()]})

    async def model(self, name: str) -> Response:
        """GET /v1/models/{name}."""
        if name not in self.names():
            raise unknown_model(name)
        return JSONResponse(self._model(name))

    async def health(self) -> Response:
        """GET /health."""
        return health(self.queue)

    async def prometheus(self) -> Response:
        """GET /metrics."""
        return Response(self.metrics.text(), media_type=self.metrics.media_type)

    @asynccontextmanager
    async def _turn(self, client: Client) -> AsyncIterator[Charge]:
        """Wait for the client's turn. Raises HTTPError beyond its quota, or if the queue is full."""
        with self.quotas.question(client) as charge:
            async with self.queue.slot():
                yield charge

    def names(self) -> list[str]:
        """Return the names that requests may give: the model alone and with each strategy after @."""
        has_verifier = self.completions.verifier is not None
        usable = [name for name, make in STRATEGIES.items() if has_verifier or not uses_verifier(make(1, Sampling()))]
        return [self.default_model, *(f"{self.default_model}@{name}" for name in usable)]

    def _model(self, name: str) -> dict[str, str | int]:
        return {
            "id": name,
            "object": "model",
            "created": self._created,
            "owned_by": "branchwise",
            "max_model_len": self.completions.backend.capabilities.context,
        }


def health(queue: RequestQueue) -> Response:
    """Return the reply of /health: whether new questions are accepted."""
    return JSONResponse({"status": "draining"}, 503) if queue.draining else JSONResponse({"status": "ok"})


def create_app(
    service: Service,
    *,
    keys: Keys | None = None,
    local: bool = False,
    cors: Sequence[str] = (),
    traced: Callable[[Mapping[str, str]], AbstractContextManager[object]] = nullcontext,
) -> FastAPI:
    """Return the routes behind an AccessMiddleware, which takes the keyword arguments.

    `cors` names the origins whose web pages may read replies.
    """
    app = FastAPI(
        title="branchwise", version=version("branchwise"), docs_url=None, redoc_url=None, redirect_slashes=False
    )
    routes: dict[str, tuple[str, Callable[..., Awaitable[Response]]]] = {
        CHAT_PATH: ("POST", service.routes.chat),
        NATIVE_PATH: ("POST", service.routes.native),
        "/v1/models": ("GET", service.models),
        "/v1/models/{name:path}": ("GET", service.model),
        "/health": ("GET", service.health),
        "/metrics": ("GET", service.prometheus),
    }
    for path, (method, endpoint) in routes.items():
        app.add_api_route(
            path, endpoint, methods=[method], response_model=None, responses=ERRORS, openapi_extra=BODIES.get(path)
        )
    describe(app, service.names())
    app.add_exception_handler(HTTPException, _routing_error)
    app.add_exception_handler(ClientDisconnect, _client_disconnected)
    app.add_exception_handler(BranchwiseError, _rejected)
    app.add_exception_handler(Exception, _internal_error)
    app.add_middleware(
        AccessMiddleware, keys=keys, local=local, metrics=service.metrics, quotas=service.quotas, traced=traced
    )
    if cors:  # outermost: a browser asks for permission without a key
        app.add_middleware(CORSMiddleware, allow_origins=list(cors), allow_methods=["GET", "POST"], allow_headers=["*"])
    return app


async def _rejected(request: Request, error: Exception) -> Response:
    return error_response(error)


async def _internal_error(request: Request, error: Exception) -> Response:
    """Answer without details; Starlette raises the error again, so that uvicorn logs it."""
    return error_response(error)


async def _client_disconnected(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _routing_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    route = f"{request.method} {without_middle(request.url.path)}"
    if status == 405:
        return error_response(HTTPError(405, f"{route}: the method is not allowed", code="method_not_allowed"))
    return error_response(HTTPError(status, f"{route}: not found", code="not_found"))
