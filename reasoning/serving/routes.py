"""The two routes that answer questions, shared by `branchwise serve` and the plugin of `vllm serve`."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from branchwise.chat.turn import Charge, Turn, free_turn
from branchwise.serving.clients import ANYONE, Client
from branchwise.serving.completion import ChatCompletionBody
from branchwise.serving.completions import ChatCompletions
from branchwise.serving.connection import EventStream, read_json, run_while_connected
from branchwise.serving.native import native_body, native_field_names, parse_native_request
from branchwise.serving.request import ChatRequest

CHAT_PATH = "/v1/chat/completions"
NATIVE_PATH = "/v1/branchwise"
CLIENT = "branchwise.client"
"""Key of the `Client` in a request's scope."""


class Models(Protocol):
    """The models that a server answers for."""

    @property
    def default_model(self) -> str:
        """Return the model of requests that name none."""

    async def completions_for(self, request: ChatRequest) -> ChatCompletions:
        """Return what answers for the request's model. Raises HTTPError if the model is not served."""


class ChatRoutes:
    """Answers requests, and stops every branch of a request whose client disconnects.

    All methods raise BranchwiseError for what can't be answered, and ClientDisconnect.
    """

    def __init__(
        self,
        models: Models,
        max_body_bytes: int,
        turn: Callable[[Client], AbstractAsyncContextManager[Charge]] | None = None,
    ) -> None:
        """`turn` returns the context of a client's run; entering it may wait, or raise HTTPError."""
        self._models = models
        self._max_body_bytes = max_body_bytes
        self._turn = turn

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions: read the body and answer it."""
        return await self.complete(ChatRequest.parse(await read_json(request, self._max_body_bytes)), request)

    async def native(self, request: Request) -> Response:
        """POST /v1/branchwise: return the whole result."""
        with native_field_names():
            body = await read_json(request, self._max_body_bytes)
            reply = await self._answer(parse_native_request(body, self._models.default_model), request)
        return reply if isinstance(reply, EventStream) else JSONResponse(native_body(reply))

    async def complete(self, chat: ChatRequest, request: Request) -> Response:
        """Answer a chat completion whose body was parsed already."""
        reply = await self._answer(chat, request)
        return reply if isinstance(reply, EventStream) else Response(reply.json_text(), media_type="application/json")

    async def _answer(self, chat: ChatRequest, request: Request) -> ChatCompletionBody | EventStream:
        """Return the reply, or its stream once the first event is there."""
        completions = await self._models.completions_for(chat)
        resolved = completions.resolve(chat)
        if chat.stream:
            return await EventStream.start(request.receive, completions.stream(resolved, self._turn_of(request)))
        return await run_while_connected(request.receive, completions.reply(resolved, self._turn_of(request)))

    def _turn_of(self, request: Request) -> Turn:
        return free_turn if self._turn is None else partial(self._turn, request.scope.get(CLIENT, ANYONE))
