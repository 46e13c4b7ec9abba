"""Backend over an OpenAI-compatible server."""

import asyncio
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from branchwise.backends.base import Backend, Capabilities, ExtendRequest, Scores, closed_error
from branchwise.backends.openai.branch import Branch, BranchContext, estimate_tokens
from branchwise.backends.openai.chat import ChatEndpoint
from branchwise.backends.openai.completions import CompletionsEndpoint
from branchwise.backends.openai.probe import find_model, probe_tokens
from branchwise.backends.openai.probe_chat import probe_chat
from branchwise.backends.openai.scoring import ScoredRow, score_tokens
from branchwise.backends.openai.server_errors import ServerError
from branchwise.backends.openai.server_features import ServerFeatures
from branchwise.backends.openai.settings import OpenAISettings
from branchwise.backends.openai.tokenizer import RemoteTokenizer
from branchwise.backends.openai.transcript import TranscriptEndpoint
from branchwise.backends.openai.transport import Transport
from branchwise.backends.stream import Ended, Extension
from branchwise.core.errors import BackendError, ConfigError
from branchwise.core.messages import Messages
from branchwise.core.path import Path, StopReason, word_ends
from branchwise.core.usage import Usage

_CLOSE_ITERATIONS = 10
"""Iterations of the event loop in which it finishes responses that the HTTP client has read in part."""


class OpenAIBackend(Backend):
    """Backend over vLLM, SGLang, llama.cpp, `branchwise serve`, or a service that has chat completions only.

    `connect` makes one, or `load` in code that does not await. Each branch is a request of its own: cancelling it
    closes its connection, which stops the server. Paths are continued by their token ids if the server takes and
    returns them; otherwise by their text, which results note.
    """

    def __init__(self, transport: Transport, features: ServerFeatures) -> None:
        self.features = features
        self.settings = transport.settings
        self._transport = transport
        self._tokenizer = RemoteTokenizer(transport, features.model)
        endpoint = (CompletionsEndpoint if features.tokens else ChatEndpoint)(features, self.settings.extra_body)
        transcript = features.continuation == "transcript"
        continuing = TranscriptEndpoint(features, self.settings.extra_body) if transcript else endpoint
        self._context = BranchContext(transport, endpoint, continuing, self._tokenizer.token_strings)
        self._capabilities = features.capabilities()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @classmethod
    async def connect(cls, settings: OpenAISettings) -> "OpenAIBackend":
        """Probe the server and return a backend over it.

        Raises BackendError if the server does not answer, ConfigError for settings that do not fit it.
        """
        transport = Transport(settings)
        try:
            card = await find_model(transport)
            features = await probe_tokens(transport, card) if settings.tokens == "auto" else None
            return cls(transport, features or await probe_chat(transport, card))
        except BaseException:
            await transport.connections.close()
            raise

    @classmethod
    def load(cls, settings: OpenAISettings) -> "OpenAIBackend":
        """Connect from code that does not await; works inside a running event loop, too."""

        async def connect() -> "OpenAIBackend":
            backend = await cls.connect(settings)
            await backend._transport.connections.close_current()
            return backend

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(lambda: asyncio.run(connect())).result()

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def root(self, messages: Messages, key: int) -> Path:
        self._check_open()
        if not self.features.tokens:
            return Path(parent=None, key=key, token_ids=(), text="", messages=messages)
        tokens = await self._prompt_tokens(messages)
        self._capabilities.check_prompt(len(tokens))
        return Path(parent=None, key=key, token_ids=tokens, text="", messages=messages)

    async def tokenize(self, text: str | Messages) -> tuple[int, ...] | None:
        self._check_open()
        if not self.features.tokens:
            return None
        return await (self._prompt_tokens(text) if isinstance(text, Messages) else self._tokenizer.encode(text))

    async def _prompt_tokens(self, messages: Messages) -> tuple[int, ...]:
        """Return the tokens of a prompt. Raises ConfigError if the server refuses it."""
        try:
            return await self._tokenizer.prompt(messages)
        except ServerError as error:
            if error.status not in (400, 422):
                raise
            raise ConfigError("question", f"the server refuses it ({error.problem})", "change what it names") from error

    def extend(self, request: ExtendRequest) -> Extension:
        self._check_open()
        prompt_tokens = self._context.endpoint.prompt_tokens(request.path)
        used = estimate_tokens(request.path) if prompt_tokens is None else prompt_tokens
        room = self._capabilities.context - used
        if room > 0:
            wanted = request.sampling.max_tokens or room
            request = replace(request, sampling=replace(request.sampling, max_tokens=min(wanted, room)))
        elif prompt_tokens is not None:
            return _without_room(len(request.keys))
        # Otherwise the estimate leaves no room; the server decides.
        return self._start(request)

    async def score(self, path: Path, continuations: Sequence[str]) -> Scores:
        """Score each continuation in a request of its own, which prefills the whole path: servers skip their prefix
        cache for prompt log-probabilities."""
        self._check_open()
        if not self.features.score:
            raise BackendError("score: this server does not support it", retryable=False, hint="use one that does")
        prompt, affinity = path.all_token_ids(), _affinity(path)
        ids = [await self._tokenizer.encode(text) for text in continuations]
        longest, context = len(prompt) + max(map(len, ids), default=0), self._capabilities.context
        if longest >= context:
            raise ConfigError(
                "continuations", f"reach {longest} tokens, the model's context is {context}", "shorten them"
            )
        model = self.features.model
        rows = await asyncio.gather(*(score_tokens(self._transport, model, prompt, one, affinity) for one in ids))
        found: list[ScoredRow] = [row for row in rows if row is not None]
        if len(found) < len(rows):
            raise BackendError("score: the server returned no log-probabilities", retryable=True, hint="check its log")
        prompt_tokens, reused = len(prompt) * len(found), sum(row.reused for row in found)
        cost = Usage(
            prompt=prompt_tokens,
            reused=reused,
            prefilled=prompt_tokens - reused,
            scored=sum(map(len, ids)),
            forward_passes=len(found),
        )
        return Scores(tuple(row.logprobs for row in found), cost)

    async def force(self, path: Path, text: str) -> Path:
        self._check_open()
        if not self.features.tokens:
            ends = word_ends(text) if self._capabilities.continues else ()
            return Path(parent=path, key=path.key, token_ids=(), text=text, ends=ends, forced=True)
        tokens = await self._tokenizer.encode(text)
        ends = await self._tokenizer.ends(text, tokens)
        return Path(parent=path, key=path.key, token_ids=tokens, text=text, ends=ends, forced=True)

    def release(self, paths: Sequence[Path]) -> None:
        """Do nothing: the server manages its own prefix cache."""

    def clear(self) -> None:
        """Do nothing: the server manages its own prefix cache."""

    async def close(self) -> None:
        self._closed = True
        current, cancelled = asyncio.get_running_loop(), []
        for task in list(self._tasks):
            loop = task.get_loop()
            if loop is current:
                task.cancel()
                cancelled.append(task)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)
        await asyncio.gather(*cancelled, return_exceptions=True)
        await self._transport.connections.close()
        for _ in range(_CLOSE_ITERATIONS):
            await asyncio.sleep(0)

    def _start(self, request: ExtendRequest) -> Extension:
        """Start one task for each branch of a request."""
        tasks: list[asyncio.Task[None]] = []
        cancelled: set[int] = set()

        def cancel(copy: int) -> None:
            if tasks and copy not in cancelled:  # a second cancellation would interrupt the closing of the connection
                cancelled.add(copy)
                tasks[copy].cancel()

        extension = Extension(len(request.keys), cancel)
        affinity = _affinity(request.path)
        for copy, key in enumerate(request.keys):
            branch = Branch(self._context, extension, copy, request, key=key, affinity=affinity)
            tasks.append(self._start_branch(branch))
        return extension

    def _start_branch(self, branch: Branch) -> asyncio.Task[None]:
        task = asyncio.create_task(branch.run())
        self._tasks.add(task)

        def finish(done: asyncio.Task[None]) -> None:
            self._tasks.discard(done)
            branch.finish(done, backend_closed=self._closed)

        task.add_done_callback(finish)
        return task

    def _check_open(self) -> None:
        if self._closed:
            raise closed_error()


def _without_room(copies: int) -> Extension:
    """Return a request whose branches have all ended, because the prompt fills the context."""
    extension = Extension(copies, lambda copy: None)
    for copy in range(copies):
        extension.deliver(Ended(copy, StopReason.LENGTH, Usage()))
    return extension


def _affinity(path: Path) -> bytes:
    """Return a digest of the prompt: all requests from one prompt share it."""
    root = path.root
    prompt = root.messages.model_dump_json() if root.messages is not None else repr(root.token_ids)
    return hashlib.blake2b(prompt.encode(errors="replace"), digest_size=16).digest()
