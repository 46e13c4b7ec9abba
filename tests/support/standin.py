"""A stand-in for OpenAI-compatible servers: real HTTP, scripted words, and whatever trouble a test wants.

For volume and for trouble alone: what real servers do is seen on real servers (tests/serving).
"""

import asyncio
import json
import re
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from branchwise.backends.scripted.vocabulary import Held
from tests.support.faults import Fault
from tests.support.threaded import InThread, ThreadedServer

Json = dict[str, object]

_PIECE = re.compile(r"<\|\w+\|>|[^\S\n]+(?=<\|\w+\|>)|\n|[^\S\n]*[^\s\w]|[^\S\n]*\w+|[^\S\n]+(?=\n|$)")
_CONTROL = re.compile(r"<\|\w+\|>")
ASSISTANT, END = "<|assistant|>\n", "<|end|>"


@dataclass(frozen=True)
class Abilities:
    """What the server can do. The defaults are those of vLLM with --enable-prompt-tokens-details."""

    tokens: bool = True
    stops_shown: bool = True
    usage: bool = True
    cached: bool = True
    logprobs: bool = True
    alternatives: int = 20
    continues: bool = True
    score: bool = True
    block: int = 16
    context: int | None = 512
    chunk: int = 1
    """Tokens in an event."""
    refused: tuple[str, ...] = ()
    """Keys of a request that are answered with 400."""


@dataclass(frozen=True)
class Said:
    """A reply: text, and the deltas it comes in where the server takes text apart (chat completions alone)."""

    text: str
    deltas: tuple[Json, ...] = ()
    delay: float = 0.0


class Words:
    """Words, punctuation marks and control tokens are the tokens, numbered in order of appearance."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._pieces: list[str] = []
        self._lock = threading.Lock()

    def tokens(self, text: str) -> list[int]:
        return [self._id(piece) for piece in _PIECE.findall(text)]

    def spell(self, tokens: Sequence[int]) -> str:
        return "".join(self._pieces[token] for token in tokens)

    def _id(self, piece: str) -> int:
        with self._lock:
            if piece not in self._ids:
                self._pieces.append(piece)
                self._ids[piece] = len(self._pieces) - 1
            return self._ids[piece]


WORDS = Words()  # all stand-ins have one model, and one tokenizer


Script = Callable[[str, int], str | Said]


@dataclass
class Standin(InThread):
    """A server in a thread; a context manager. `script` is asked with the rendered prompt up to the assistant's turn
    and how often it was asked before; an answer that was begun goes on as the script has it."""

    script: Script
    abilities: Abilities = field(default_factory=Abilities)
    faults: Callable[[int], Fault | None] = lambda _: None
    model: str = "standin"

    def __post_init__(self) -> None:
        self.words = WORDS
        self.requests: list[Json] = []
        """Bodies of the requests that generate."""
        self.headers: list[dict[str, str]] = []
        self.running = 0
        """Answers being written."""
        self.aborted = 0
        """Answers whose reader went away."""
        self._asked: dict[str, int] = {}
        self._held = Held()
        self._lock = threading.Lock()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._server = ThreadedServer(self._app(), self._socket)

    def forget(self) -> None:
        """Drop what is held, and what was asked."""
        self._held = Held()
        self._asked.clear()
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
        if self.abilities.context is not None:
            card["max_model_len"] = self.abilities.context
        return JSONResponse({"object": "list", "data": [card]})

    async def _tokenize(self, request: Request) -> Response:
        if not self.abilities.tokens:
            return _refuse(404, "no such address")
        body = await request.json()
        text = body["prompt"] if "prompt" in body else self._render(body)
        return JSONResponse({"tokens": self.words.tokens(text), "max_model_len": self.abilities.context})

    async def _detokenize(self, request: Request) -> Response:
        if not self.abilities.tokens:
            return _refuse(404, "no such address")
        return JSONResponse({"prompt": self.words.spell((await request.json())["tokens"])})

    async def _completions(self, request: Request) -> Response:
        body = await request.json()
        if not self.abilities.tokens:
            return _refuse(404, "no such address")
        if (wanted := body.get("logprobs")) is not None and wanted > self.abilities.alternatives:
            return _refuse(400, f"logprobs: at most {self.abilities.alternatives}")
        if body.get("prompt_logprobs") is not None:
            return self._score(body)
        return await self._generate(request, body, _Completions(body, self.words), list(body["prompt"]))

    async def _chat(self, request: Request) -> Response:
        body = await request.json()
        return await self._generate(request, body, _Chat(body), self.words.tokens(self._render(body)))

    def _render(self, body: Json) -> str:
        """A chat template. What a turn calls and which tools there are is written as JSON."""
        turns: list[Json] = list(body["messages"])  # type: ignore[call-overload]
        going_on = self.abilities.continues and body.get("continue_final_message")
        last = turns.pop() if going_on else None
        text = f"<|tools|>\n{json.dumps(body['tools'])}{END}\n" if body.get("tools") else ""
        for turn in turns:
            calls = json.dumps(turn["tool_calls"]) if turn.get("tool_calls") else ""
            text += f"<|{turn['role']}|>\n{turn['content']}{calls}{END}\n"
        if body.get("chat_template_kwargs"):
            text += f"<|switches|>\n{json.dumps(body['chat_template_kwargs'])}{END}\n"
        return text + ASSISTANT + (str(last["content"]) if last else "")

    def _score(self, body: Json) -> Response:
        if not self.abilities.score:
            return _refuse(400, "prompt_logprobs: not here")
        prompt: list[int] = list(body["prompt"])  # type: ignore[call-overload]
        rows: list[object] = [None, *({str(token): {"logprob": -0.5 - token % 7}} for token in prompt[1:])]
        usage = {"prompt_tokens": len(prompt), "completion_tokens": 1}
        choice = {"text": "x", "finish_reason": "length", "prompt_logprobs": rows}
        return JSONResponse({"choices": [choice], "usage": usage})

    async def _generate(self, request: Request, body: Json, form: "_Form", prompt: list[int]) -> Response:
        with self._lock:
            number = len(self.requests)
            self.requests.append(body)
            self.headers.append(dict(request.headers))
        for key in self.abilities.refused:
            if _has(body, key):
                return _refuse(400, f"Unrecognized request argument supplied: {key}")
        if len(prompt) + int(body.get("max_tokens") or 1) > (self.abilities.context or 1 << 30):  # type: ignore[call-overload]
            return _refuse(400, f"maximum context length is {self.abilities.context} tokens")
        fault = self.faults(number)
        if fault is not None and fault.kind.isdigit():
            headers = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
            return _refuse(int(fault.kind), "busy", headers)
        if fault is not None and fault.kind == "reset":
            self._server.abort(request)
            return Response()
        said = self._reply(prompt)
        known = self._held.hold(prompt, 1)
        cached = min(known, len(prompt) - 1) // self.abilities.block * self.abilities.block
        speech = _speech(said, body, self.words, self.abilities)
        events = self._events(request, body, form, speech, prompt, cached, fault, said.delay)
        return StreamingResponse(events, media_type="text/event-stream")

    def _reply(self, prompt: list[int]) -> Said:
        text = self.words.spell(prompt)
        begins = text.rfind(ASSISTANT)
        asked, begun = (text[:begins], text[begins + len(ASSISTANT) :]) if begins >= 0 else (text, "")
        with self._lock:
            before = self._asked.get(asked, 0)
            self._asked[asked] = before + 1
        said = self.script(asked, before)
        said = Said(said) if isinstance(said, str) else said
        return replace(said, text=said.text[len(begun) :] if said.text.startswith(begun) else said.text)

    async def _events(
        self,
        request: Request,
        body: Json,
        form: "_Form",
        speech: "_Speech",
        prompt: list[int],
        cached: int,
        fault: Fault | None,
        delay: float,
    ) -> AsyncIterator[str]:
        self.running += 1
        whole, sent = False, 0
        try:
            for count, piece in enumerate(speech.pieces(form.deltas(speech))):
                if fault is not None and count == fault.after:
                    async for line in self._trouble(request, fault, form, piece):
                        yield line
                    if fault.kind not in ("slow", "undone", "unpriced"):
                        return
                sent += len(piece.tokens)
                event = form.event(piece, prompt if count == 0 else None)
                if self._told(body, "continuous_usage_stats"):
                    event["usage"] = self._usage(prompt, sent, None)
                yield _line(event)
                await asyncio.sleep(delay)
            self._held.hold([*prompt, *speech.tokens[:-1]], 1)
            if self._told(body, "include_usage") and (fault is None or fault.kind != "unpriced"):
                yield _line({"choices": [], "usage": self._usage(prompt, sent, cached)})
            if fault is None or fault.kind != "undone":
                yield "data: [DONE]\n\n"
            whole = True
        finally:
            self._held.hold([*prompt, *speech.tokens[: max(0, sent - 1)]], 1)
            self.running -= 1
            self.aborted += not whole and fault is None

    async def _trouble(self, request: Request, fault: Fault, form: "_Form", piece: "_Piece") -> AsyncIterator[str]:
        match fault.kind:
            case "cut":
                self._server.abort(request)
            case "garbage":
                yield 'data: {"choices": [{"text": "never to be se\n\n'
            case "binary":
                yield "data: \x00\ufffe}{\n\n"
            case "error":
                yield _line({"error": {"message": "the engine fell over", "type": "server_error", "code": 500}})
            case "tokens":
                event = form.event(piece, None)
                event["choices"][0]["token_ids"] = [1, 2, 3, 4]  # type: ignore[index]
                event["choices"][0]["finish_reason"] = "abort"  # type: ignore[index]
                yield _line(event)
            case "prompt":
                yield _line(form.event(piece, [7, 7, 7]))
            case "slow":
                await asyncio.sleep(4)
            case "short" | "undone" | "unpriced":
                pass
            case _:
                raise AssertionError(f"no such fault: {fault.kind}")

    def _told(self, body: Json, option: str) -> bool:
        options = body.get("stream_options")
        return self.abilities.usage and isinstance(options, dict) and bool(options.get(option))

    def _usage(self, prompt: Sequence[int], sampled: int, cached: int | None) -> Json:
        usage: Json = {"prompt_tokens": len(prompt), "completion_tokens": sampled}
        if cached is not None and self.abilities.cached:
            usage["prompt_tokens_details"] = {"cached_tokens": cached}
        return usage


@dataclass(frozen=True)
class _Piece:
    tokens: list[int]
    strings: list[str]
    text: str
    finish: str | None
    delta: Json | None = None


@dataclass(frozen=True)
class _Speech:
    tokens: list[int]
    strings: list[str]
    shown: list[str]  # what each token adds to the text
    finish: str
    chunk: int
    said: Said

    def pieces(self, deltas: Sequence[Json]) -> Iterator[_Piece]:
        if deltas:
            for i, delta in enumerate(deltas):
                token = self.tokens[i % len(self.tokens)]
                yield _Piece([token], [""], "", self.finish if i == len(deltas) - 1 else None, delta)
            return
        for start in range(0, len(self.tokens), self.chunk):
            part = slice(start, start + self.chunk)
            finish = self.finish if start + self.chunk >= len(self.tokens) else None
            yield _Piece(self.tokens[part], self.strings[part], "".join(self.shown[part]), finish)


def _speech(said: Said, body: Json, words: Words, able: Abilities) -> _Speech:
    """How a reply comes out: cut at a stop string as vLLM does, or at the most tokens."""
    tokens = words.tokens(said.text + END)
    limit = int(body.get("max_tokens") or body.get("max_completion_tokens") or len(tokens))  # type: ignore[call-overload]
    stops: list[str] = list(body.get("stop") or ())  # type: ignore[call-overload]
    include = able.stops_shown and bool(body.get("include_stop_str_in_output"))
    text, shown, finish = "", list[str](), "length"
    for token in tokens[:limit]:
        piece = words.spell((token,))
        shown.append("" if _CONTROL.fullmatch(piece) else piece)
        text += shown[-1]
        found = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
        if found:
            end, at = min(found)
            shown, finish = _cut(shown, end if include else at), "stop"
            break
        if piece == END:
            finish = "stop"
    tokens = tokens[: len(shown)]
    return _Speech(tokens, [words.spell((token,)) for token in tokens], shown, finish, able.chunk, said)


def _cut(shown: list[str], length: int) -> list[str]:
    """What tokens show of a text that was cut."""
    left, kept = length, []
    for piece in shown:
        kept.append(piece[: max(0, left)])
        left -= len(piece)
    return kept


class _Form:
    """What an answer looks like."""

    def deltas(self, speech: _Speech) -> Sequence[Json]:
        return ()

    def event(self, piece: _Piece, prompt: list[int] | None) -> Json:
        raise NotImplementedError


class _Completions(_Form):
    def __init__(self, body: Json, words: Words) -> None:
        self._wanted = body.get("logprobs")
        self._named = bool(body.get("return_tokens_as_token_ids"))

    def event(self, piece: _Piece, prompt: list[int] | None) -> Json:
        choice: Json = {"index": 0, "text": piece.text, "token_ids": piece.tokens, "finish_reason": piece.finish}
        if prompt is not None:
            choice["prompt_token_ids"] = prompt
        if self._wanted is not None:
            names = [f"token_id:{t}" for t in piece.tokens] if self._named else piece.strings
            others = range(int(self._wanted))  # type: ignore[call-overload]
            top = [{name: -0.1} | {f"token_id:{100_000 + i}": -3.0 - i for i in others} for name in names]
            choice["logprobs"] = {"tokens": names, "token_logprobs": [-0.1] * len(names), "top_logprobs": top}
        return {"choices": [choice]}


class _Chat(_Form):
    def __init__(self, body: Json) -> None:
        self._logprobs = bool(body.get("logprobs"))

    def deltas(self, speech: _Speech) -> Sequence[Json]:
        return speech.said.deltas

    def event(self, piece: _Piece, prompt: list[int] | None) -> Json:
        delta = {"content": piece.text} if piece.delta is None else piece.delta
        choice: Json = {"index": 0, "delta": delta, "finish_reason": piece.finish}
        if self._logprobs:
            choice["logprobs"] = {"content": [{"token": s, "logprob": -0.1, "bytes": None} for s in piece.strings]}
        return {"choices": [choice]}


def _line(event: Json) -> str:
    return f"data: {json.dumps(event, ensure_ascii=False)}\n\n"


def _refuse(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    error = {"message": message, "type": "error", "param": None, "code": status}
    return JSONResponse({"error": error}, status_code=status, headers=headers)


def _has(body: Json, key: str) -> bool:
    options = body.get("stream_options")
    return key in body or (isinstance(options, dict) and key in options)
