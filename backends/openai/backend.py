"""The backend over an OpenAI-compatible server."""

import asyncio
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from branchwise.backends.base import Backend, Capabilities, ExtendRequest, Scores, closed_error
from branchwise.backends.openai.branch import Branch, Means, roughly
from branchwise.backends.openai.chat import ChatDialect
from branchwise.backends.openai.dialect import TokenDialect
from branchwise.backends.openai.failures import ServerError
from branchwise.backends.openai.features import Features
from branchwise.backends.openai.probe import find_model, probe_tokens
from branchwise.backends.openai.probe_chat import probe_chat
from branchwise.backends.openai.scoring import Row, score_one
from branchwise.backends.openai.settings import OpenAISettings
from branchwise.backends.openai.tokenizer import RemoteTokenizer
from branchwise.backends.openai.transport import Transport
from branchwise.backends.stream import Ended, Extension
from branchwise.core.errors import BackendError, ConfigError
from branchwise.core.messages import Messages
from branchwise.core.path import Path, StopReason
from branchwise.core.usage import Usage

_TURNS = 10  # of the event loop, in which it finishes what the HTTP client had read in part


class OpenAIBackend(Backend):
    """Asks a server: vLLM, SGLang, llama.cpp, `branchwise serve`, or a service that knows chat completions alone.

    Make one with `connect`, or `load` where nothing is awaited. Every branch is a request of its own: cancelling it
    closes its connection, which stops the server. Where the server takes and shows token ids, paths are continued by
    them; otherwise by their text, and results say so.
    """

    def __init__(self, transport: Transport, features: Features) -> None:
        self.features = features
        self.settings = transport.settings
        self._transport = transport
        self._tokenizer = RemoteTokenizer(transport, features.model)
        dialect = (TokenDialect if features.tokens else ChatDialect)(features, self.settings.extra_body)
        self._means = Means(transport, dialect, self._tokenizer.spell)
        self._capabilities = features.capabilities()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @classmethod
    async def connect(cls, settings: OpenAISettings) -> "OpenAIBackend":
        """Find out what the server can do. Raises BackendError where it can't be asked, ConfigError for settings that
        don't fit it."""
        transport = Transport(settings)
        try:
            card = await find_model(transport)
            features = await probe_tokens(transport, card) if settings.tokens == "auto" else None
            return cls(transport, features or await probe_chat(transport, card))
        except BaseException:
            await transport.lines.close()
            raise

    @classmethod
    def load(cls, settings: OpenAISettings) -> "OpenAIBackend":
        """`connect` for code that does not await; works inside a running event loop too."""

        async def connect() -> "OpenAIBackend":
            backend = await cls.connect(settings)
            await backend._transport.lines.close_here()
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
        try:
            tokens = await self._tokenizer.prompt(messages)
        except ServerError as error:
            if error.status not in (400, 422):
                raise
            raise ConfigError("question", f"the server refuses it ({error.problem})", "use what it takes") from error
        self._capabilities.check_prompt(len(tokens))
        return Path(parent=None, key=key, token_ids=tokens, text="", messages=messages)

    def extend(self, request: ExtendRequest) -> Extension:
        self._check_open()
        context, given = self._capabilities.context, self._means.dialect.given(request.path)
        room = context - (roughly(request.path) if given is None else given)
        if room > 0:  # else the server alone knows, or there is none
            wanted = request.sampling.max_tokens or room
            request = replace(request, sampling=replace(request.sampling, max_tokens=min(wanted, room)))
        tasks: list[asyncio.Task[None]] = []
        unwanted: set[int] = set()

        def cancel(copy: int) -> None:
            if tasks and copy not in unwanted:  # a second one would disturb the closing of its connection
                unwanted.add(copy)
                tasks[copy].cancel()

        extension = Extension(len(request.keys), cancel)
        if room <= 0 and given is not None:
            for copy in range(len(request.keys)):
                extension.deliver(Ended(copy, StopReason.LENGTH, Usage()))
            return extension
        affinity = _affinity(request.path)
        for copy, key in enumerate(request.keys):
            branch = Branch(self._means, extension, copy, request, key, affinity)
            tasks.append(self._start(branch))
        return extension

    async def score(self, path: Path, continuations: Sequence[str]) -> Scores:
        """One request for each continuation, and each reads the whole path: servers keep no prefix for these."""
        self._check_open()
        if not self.features.score:
            raise BackendError("score: this server can't", retryable=False, hint="use one that scores given texts")
        given, affinity = path.all_token_ids(), _affinity(path)
        ids = [await self._tokenizer.encode(text) for text in continuations]
        longest = len(given) + max(map(len, ids), default=0)
        if longest >= self._capabilities.context:
            context = self._capabilities.context
            raise ConfigError("continuations", f"reach {longest} tokens, the model's context is {context}", "cut them")
        model = self.features.model
        rows = await asyncio.gather(*(score_one(self._transport, model, given, tokens, affinity) for tokens in ids))
        found: list[Row] = [row for row in rows if row is not None]
        if len(found) < len(rows):
            raise BackendError("score: the server shows no log-probabilities", retryable=True, hint="check its log")
        prompt, reused = len(given) * len(found), sum(row.reused for row in found)
        cost = Usage(
            prompt=prompt,
            reused=reused,
            prefilled=prompt - reused,
            scored=sum(map(len, ids)),
            forward_passes=len(found),
        )
        return Scores(tuple(row.logprobs for row in found), cost)

    async def force(self, path: Path, text: str) -> Path:
        self._check_open()
        if not self.features.tokens:
            return Path(parent=path, key=path.key, token_ids=(), text=text, forced=True)
        tokens = await self._tokenizer.encode(text)
        ends = await self._tokenizer.ends(text, tokens)
        return Path(parent=path, key=path.key, token_ids=tokens, text=text, ends=ends, forced=True)

    def release(self, paths: Sequence[Path]) -> None:
        """Nothing is held here, and servers can't be told."""

    def clear(self) -> None:
        """Nothing is held here: what the server keeps stays there."""

    async def close(self) -> None:
        self._closed = True
        here, mine = asyncio.get_running_loop(), []
        for task in list(self._tasks):
            loop = task.get_loop()
            if loop is here:
                task.cancel()
                mine.append(task)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)
        await asyncio.gather(*mine, return_exceptions=True)
        await self._transport.lines.close()
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    def _start(self, branch: Branch) -> asyncio.Task[None]:
        task = asyncio.create_task(branch.run())
        self._tasks.add(task)

        def settle(done: asyncio.Task[None]) -> None:
            self._tasks.discard(done)
            branch.settle(done, self._closed)

        task.add_done_callback(settle)
        return task

    def _check_open(self) -> None:
        if self._closed:
            raise closed_error()


def _affinity(path: Path) -> bytes:
    """What the requests from one prompt have in common."""
    root = path.root
    prompt = root.messages.model_dump_json() if root.messages is not None else repr(root.token_ids)
    return hashlib.blake2b(prompt.encode(errors="replace"), digest_size=16).digest()
