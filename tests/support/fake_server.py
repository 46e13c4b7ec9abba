"""Fake OpenAI-compatible server: real HTTP, scripted replies, and any fault that a test requests.

It tests volume and faults. tests/vllm tests the behaviour of real servers.
"""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from branchwise.backends.scripted.vocabulary import PrefixTree
from tests.support.fake_responses import (
    ChatFormat,
    CompletionsFormat,
    EventFormat,
    FakeReply,
    PlannedResponse,
    ResponseChunk,
    plan_response,
)
from tests.support.fake_tokenizer import ASSISTANT, TOKENIZER, Json, render_chat
from tests.support.faults import Fault
from tests.support.threaded import InThread, ThreadedServer


@dataclass(frozen=True)
class FakeFeatures:
    """Features of the server. The defaults are those of vLLM with --enable-prompt-tokens-details."""

    tokens: bool = True
    includes_stop: bool = True
    usage: bool = True
    cached: bool = True
    logprobs: bool = True
    alternatives: int = 20
    continuation: str = "fields"
    """The condition on which it continues the assistant's turn; see `render_chat`."""
    completes: bool = False
    """It completes text at /v1/completions."""
    temperatures: tuple[float, ...] = ()
    """The temperatures that it accepts; empty: all of them."""
    score: bool = True
    block: int = 16
    context: int | None = 512
    chunk: int = 1
    """Tokens in an event."""
    refused: tuple[str, ...] = ()
    """Fields of a request that are answered with 400."""


Script = Callable[[str, int], str | FakeReply]


@dataclass
class FakeServer(InThread):
    """A server in a thread; a context manager.

    `script` is called with the rendered prompt up to the assistant's turn, and the number of requests with that prompt
    before. If the turn has begun, the response is the rest of the script's reply.
    """

    script: Script
    features: FakeFeatures = field(default_factory=FakeFeatures)
    faults: Callable[[int], Fault | None] = lambda _: None
    """Returns the fault of a request by its number."""
    model: str = "fake"
    later: FakeFeatures | None = None
    """Features after `change_after` requests."""
    change_after: int = 0

    def __post_init__(self) -> None:
        self.tokenizer = TOKENIZER
        self.requests: list[Json] = []
        """Bodies of the requests that sample."""
        self.headers: list[dict[str, str]] = []
        self.running = 0
        """Responses that are being streamed."""
        self.aborted = 0
        """Responses whose client closed the connection."""
        self._requested: dict[str, int] = {}
        self._prefixes = PrefixTree()
        self._lock = threading.Lock()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._server = ThreadedServer(self._app(), self._socket)

    def reset(self) -> None:
        """Forget all requests and cached prefixes."""
        self._prefixes = PrefixTree()
        self._requested.clear()
        self.requests.clear()
        self.headers.clear()
        self.aborted = 0

    def _app(self) -> Starlette:
        post = ["POST"]
        return Starlette(
            routes=[
                Route("/v1/models", self._models),
                Route("/tokenize", self._tokenize, methods=post),
                Route("/detokenize", self._detokenize, methods=post),
                Route("/v1/completions", self._completions, methods=post),
                Route("/v1/chat/completions", self._chat, methods=post),
            ]
        )

    async def _models(self, request: Request) -> Response:
        self.headers.append(dict(request.headers))
        card: Json = {"id": self.model, "object": "model"}
        if self.features.context is not None:
            card["max_model_len"] = self.features.context
        return JSONResponse({"object": "list", "data": [card]})

    async def _tokenize(self, request: Request) -> Response:
        if not self.features.tokens:
            return _refuse(404, "no such address")
        body = await request.json()
        text = body["prompt"] if "prompt" in body else render_chat(body, self.features.continuation)
        return JSONResponse({"tokens": self.tokenizer.encode(text), "max_model_len": self.features.context})

    async def _detokenize(self, request: Request) -> Response:
        if not self.features.tokens:
            return _refuse(404, "no such address")
        return JSONResponse({"prompt": self.tokenizer.decode((await request.json())["tokens"])})

    async def _completions(self, request: Request) -> Response:
        body = await request.json()
        if self.features.completes and isinstance(body["prompt"], str):
            prompt = body["prompt"].replace("Assistant: ", ASSISTANT)
            return await self._sample(request, body, CompletionsFormat(body), self.tokenizer.encode(prompt))
        if not self.features.tokens:
            return _refuse(404, "no such address")
        if (wanted := body.get("logprobs")) is not None and wanted > self.features.alternatives:
            return _refuse(400, f"logprobs: at most {self.features.alternatives}")
        if body.get("prompt_logprobs") is not None:
            return self._score(body)
        return await self._sample(request, body, CompletionsFormat(body), list(body["prompt"]))

    async def _chat(self, request: Request) -> Response:
        body = await request.json()
        prompt = self.tokenizer.encode(render_chat(body, self.features.continuation))
        return await self._sample(request, body, ChatFormat(body), prompt)

    def _score(self, body: Json) -> Response:
        if not self.features.score:
            return _refuse(400, "prompt_logprobs: not supported")
        prompt: list[int] = list(body["prompt"])  # type: ignore[call-overload]
        rows: list[object] = [None, *({str(token): {"logprob": -0.5 - token % 7}} for token in prompt[1:])]
        usage = {"prompt_tokens": len(prompt), "completion_tokens": 1}
        choice = {"text": "x", "finish_reason": "length", "prompt_logprobs": rows}
        return JSONResponse({"choices": [choice], "usage": usage})

    async def _sample(self, request: Request, body: Json, form: EventFormat, prompt: list[int]) -> Response:
        with self._lock:
            number = len(self.requests)
            self.requests.append(body)
            self.headers.append(dict(request.headers))
        if self.later is not None and len(self.requests) > self.change_after:
            self.features = self.later
        if refusal := self._refusal(body, prompt):
            return refusal
        fault = self.faults(number)
        if fault is not None and fault.kind.isdigit():
            headers = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
            return _refuse(int(fault.kind), "busy", headers)
        if fault is not None and fault.kind == "reset":
            self._server.abort(request)
            return Response()
        reply = self._reply(prompt)
        known = self._prefixes.insert(prompt, 1)
        cached = min(known, len(prompt) - 1) // self.features.block * self.features.block
        stream = _Stream(
            request=request,
            body=body,
            form=form,
            prompt=prompt,
            cached=cached if self.features.cached else None,
            response=plan_response(reply.text, body, includes_stop=self.features.includes_stop),
            reply=reply,
            fault=fault,
        )
        return StreamingResponse(self._events(stream), media_type="text/event-stream")

    def _refusal(self, body: Json, prompt: list[int]) -> Response | None:
        for key in self.features.refused:
            if _has(body, key):
                return _refuse(400, f"Unrecognized request argument supplied: {key}")
        accepted = self.features.temperatures
        if accepted and body.get("temperature", accepted[0]) not in accepted:
            return _refuse(400, f"Unsupported value: 'temperature' does not support {body['temperature']}.")
        context = self.features.context
        if context is not None and len(prompt) + int(body.get("max_tokens") or 1) > context:  # type: ignore[call-overload]
            return _refuse(400, f"maximum context length is {context} tokens")
        return None

    def _reply(self, prompt: list[int]) -> FakeReply:
        """Return the rest of the script's reply after the beginning of the assistant's turn."""
        text = self.tokenizer.decode(prompt)
        start = text.rfind(ASSISTANT)
        question, beginning = (text[:start], text[start + len(ASSISTANT) :]) if start >= 0 else (text, "")
        with self._lock:
            before = self._requested.get(question, 0)
            self._requested[question] = before + 1
        reply = self.script(question, before)
        reply = FakeReply(reply) if isinstance(reply, str) else reply
        return FakeReply(reply.text.removeprefix(beginning), reply.deltas, reply.delay)

    async def _events(self, stream: "_Stream") -> AsyncIterator[str]:
        self.running += 1
        complete, sent, fault = False, 0, stream.fault
        try:
            for count, chunk in enumerate(stream.chunks(self.features.chunk)):
                if fault is not None and count == fault.after:
                    async for line in self._fail(stream, fault, chunk):
                        yield line
                    if fault.kind not in ("slow", "undone", "unpriced"):
                        return
                sent += len(chunk.tokens)
                event = stream.form.event(chunk, stream.prompt if count == 0 else None)
                if self._reports(stream.body, "continuous_usage_stats"):
                    event["usage"] = stream.usage(sent, None)
                yield _line(event)
                await asyncio.sleep(stream.reply.delay)
            self._prefixes.insert([*stream.prompt, *stream.response.tokens[:-1]], 1)
            if self._reports(stream.body, "include_usage") and (fault is None or fault.kind != "unpriced"):
                yield _line({"choices": [], "usage": stream.usage(sent, stream.cached)})
            if fault is None or fault.kind != "undone":
                yield "data: [DONE]\n\n"
            complete = True
        finally:
            self._prefixes.insert([*stream.prompt, *stream.response.tokens[: max(0, sent - 1)]], 1)
            self.running -= 1
            if not complete and fault is None:
                self.aborted += 1

    async def _fail(self, stream: "_Stream", fault: Fault, chunk: ResponseChunk) -> AsyncIterator[str]:
        """Yield the lines of a fault in the middle of a response."""
        match fault.kind:
            case "cut":
                self._server.abort(stream.request)
            case "garbage":
                yield 'data: {"choices": [{"text": "never to be se\n\n'
            case "binary":
                yield "data: \x00\ufffe}{\n\n"
            case "error":
                yield _line({"error": {"message": "the engine fell over", "type": "server_error", "code": 500}})
            case "tokens":
                event = stream.form.event(chunk, None)
                event["choices"][0]["token_ids"] = [1, 2, 3, 4]  # type: ignore[index]
                event["choices"][0]["finish_reason"] = "abort"  # type: ignore[index]
                yield _line(event)
            case "prompt":
                yield _line(stream.form.event(chunk, [7, 7, 7]))
            case "slow":
                await asyncio.sleep(4)
            case "short" | "undone" | "unpriced":
                pass
            case _:
                raise AssertionError(f"unknown fault: {fault.kind}")

    def _reports(self, body: Json, option: str) -> bool:
        """Return True if the request asks for usage with this option, and the server reports usage."""
        options = body.get("stream_options")
        return self.features.usage and isinstance(options, dict) and bool(options.get(option))


@dataclass(frozen=True)
class _Stream:
    """One streamed response."""

    request: Request
    body: Json
    form: EventFormat
    prompt: list[int]
    cached: int | None
    """Prompt tokens from the cache; None if the server does not report them."""
    response: PlannedResponse
    reply: FakeReply
    fault: Fault | None

    def chunks(self, size: int) -> Sequence[ResponseChunk]:
        return list(self.response.chunks(size, self.form.deltas(self.reply)))

    def usage(self, sampled: int, cached: int | None) -> Json:
        usage: Json = {"prompt_tokens": len(self.prompt), "completion_tokens": sampled}
        if cached is not None:
            usage["prompt_tokens_details"] = {"cached_tokens": cached}
        return usage


def _line(event: Json) -> str:
    return f"data: {json.dumps(event, ensure_ascii=False)}\n\n"


def _refuse(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    error = {"message": message, "type": "error", "param": None, "code": status}
    return JSONResponse({"error": error}, status_code=status, headers=headers)


def _has(body: Json, key: str) -> bool:
    options = body.get("stream_options")
    return key in body or (isinstance(options, dict) and key in options)
