"""The scripted backend: a deterministic double that answers from a script.

For tests, examples and developing strategies without a model. It tells the truth in its ledger: it
remembers which prefixes it has seen, and counts them as reused.
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from branchwise.backends.base import Backend, Capabilities, ExtendRequest, Scores
from branchwise.backends.extension import Broken, Ended, Extension, Tokens
from branchwise.errors import BackendError, ConfigError
from branchwise.messages import Messages
from branchwise.path import Path, StopReason, TopLogprob
from branchwise.usage import Usage

_PIECE = re.compile(r"\s*[^\s\w]|\s*\w+|\s+$")


@dataclass(frozen=True, slots=True)
class Reply:
    """What the backend says to one branch."""

    text: str
    logprob: float = -0.1
    """Of every token, nats."""
    delay: float = 0.0
    """Seconds before each token."""
    fail_after: int | None = None
    """Break the branch after so many tokens."""


Script = Mapping[str, Sequence[str | Reply]] | Callable[[Path, int], str | Reply]


@dataclass(frozen=True, slots=True)
class _Speech:
    """A reply as one branch will say it."""

    reply: Reply
    tokens: tuple[int, ...]
    shown: int  # characters of it that a stop leaves
    reason: StopReason | None  # None: it breaks


@dataclass(slots=True)
class _Held:
    """A tree of the tokens seen so far."""

    children: dict[int, "_Held"] = field(default_factory=dict)


class ScriptedBackend(Backend):
    """Replies from a script.

    `script` is a mapping from what a path has generated so far ("" at the prompt) to the replies its
    branches get, in the order in which they are asked for, over and over; or a function of the path
    and of how many branches it has had before. Words and punctuation marks are its tokens; a reply ends its turn
    where its text ends. `scores` gives log-probabilities of whole continuations.
    """

    def __init__(
        self,
        script: Script,
        *,
        scores: Mapping[str, float] | None = None,
        capabilities: Capabilities | None = None,
    ) -> None:
        self._script = script
        self._scores = dict(scores or {})
        self._capabilities = capabilities or Capabilities(model="scripted", context=100_000)
        self._ids: dict[str, int] = {}
        self._pieces: list[str] = []
        self._asked: dict[tuple[str, str], int] = {}
        self._held = _Held()
        self.running: dict[asyncio.Task[None], asyncio.Event] = {}
        """Branches under way and how to stop them; for tests of cancellation, too."""
        self.released: list[Path] = []

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def root(self, messages: Messages, key: int) -> Path:
        text = "\n".join(f"{turn.role}: {turn.content}" for turn in messages.turns)
        tokens = self._tokens(text + messages.prefix)
        if len(tokens) >= self._capabilities.context:
            raise ConfigError(
                "question",
                f"its prompt is {len(tokens)} tokens long, the model's context is {self._capabilities.context}",
                "shorten it, or use a model with a longer context",
            )
        return Path(parent=None, key=key, token_ids=tokens, text="", messages=messages)

    def extend(self, request: ExtendRequest) -> Extension:
        stops = [asyncio.Event() for _ in request.keys]
        extension = Extension(len(request.keys), lambda copy: stops[copy].set())
        for copy, stop in enumerate(stops):
            speech = self._prepare(request, self._reply(request.path))
            task = asyncio.create_task(self._speak(extension, copy, request, speech, stop))
            self.running[task] = stop
            task.add_done_callback(self.running.pop)
        return extension

    async def score(self, path: Path, continuations: Sequence[str]) -> Scores:
        given = path.all_token_ids()
        reused = self._hold(given)
        rows = []
        for text in continuations:
            tokens = self._tokens(text)
            total = self._scores.get(text, -10.0)
            rows.append(tuple(total / len(tokens) for _ in tokens))
        cost = Usage(
            prompt=len(given),
            reused=reused,
            prefilled=len(given) - reused,
            scored=sum(map(len, rows)),
            forward_passes=1,
        )
        return Scores(tuple(rows), cost)

    async def force(self, path: Path, text: str) -> Path:
        tokens = self._tokens(text)
        return Path(parent=path, key=path.key, token_ids=tokens, text=text, ends=self._ends(tokens), forced=True)

    def release(self, paths: Sequence[Path]) -> None:
        self.released.extend(paths)

    def clear(self) -> None:
        self._held = _Held()

    async def close(self) -> None:
        for stop in self.running.values():
            stop.set()

    def _reply(self, path: Path) -> Reply:
        said = "".join(segment.text for segment in path.segments())
        place = (str(path.root.token_ids), said)
        before = self._asked.get(place, 0)
        self._asked[place] = before + 1
        if callable(self._script):
            reply = self._script(path, before)
        elif said in self._script:
            replies = self._script[said]
            reply = replies[before % len(replies)]
        else:
            raise BackendError(f"the script has no reply after {said!r}", retryable=False, hint="add one")
        return Reply(reply) if isinstance(reply, str) else reply

    def _prepare(self, request: ExtendRequest, reply: Reply) -> _Speech:
        """What a branch will say, and how it will end."""
        tokens, text = self._tokens(reply.text), ""
        limit = request.sampling.max_tokens or len(tokens)
        for count, token in enumerate(tokens, 1):
            if reply.fail_after is not None and count > reply.fail_after:
                return _Speech(reply, tokens[: count - 1], len(text), None)
            if count > limit:
                return _Speech(reply, tokens[:limit], len(text), StopReason.LENGTH)
            text += self._pieces[token]
            found = [at for stop in request.sampling.stop if (at := text.find(stop)) >= 0]
            if found:
                return _Speech(reply, tokens[:count], min(found), StopReason.STOP)
        broken = reply.fail_after is not None and reply.fail_after >= len(tokens)
        return _Speech(reply, tokens, len(text), None if broken else StopReason.END)

    async def _speak(
        self, extension: Extension, copy: int, request: ExtendRequest, speech: _Speech, stop: asyncio.Event
    ) -> None:
        """Say it token by token."""
        given, reply = request.path.all_token_ids(), speech.reply
        reused, said, at = self._hold(given), 0, 0
        for token in speech.tokens:
            if await _pause(stop, reply.delay):
                break
            said += 1
            start, at = at, at + len(self._pieces[token])
            text = self._pieces[token][: max(0, speech.shown - start)]
            top = ((TopLogprob(token, reply.logprob),),) if request.sampling.logprobs else None
            extension.deliver(Tokens(copy, (token,), text, (at,), (reply.logprob,), top))
        whole = said == len(speech.tokens)
        kept = whole and speech.reason is not None
        cost = Usage(
            prompt=len(given),
            reused=reused,
            prefilled=len(given) - reused,
            sampled=said,
            discarded=0 if kept else said,
            forward_passes=said,
        )
        self._hold((*given, *speech.tokens[:said]))
        if whole and speech.reason is None:
            error = BackendError("the script says so", retryable=False, hint="change the script")
            extension.deliver(Broken(copy, error, cost))
        else:
            extension.deliver(Ended(copy, (whole and speech.reason) or StopReason.CANCELLED, cost))

    def _tokens(self, text: str) -> tuple[int, ...]:
        return tuple(self._id(piece) for piece in _PIECE.findall(text))

    def _id(self, piece: str) -> int:
        if piece not in self._ids:
            self._ids[piece] = len(self._pieces)
            self._pieces.append(piece)
        return self._ids[piece]

    def _ends(self, tokens: Sequence[int]) -> tuple[int, ...]:
        ends, at = [], 0
        for token in tokens:
            at += len(self._pieces[token])
            ends.append(at)
        return tuple(ends)

    def _hold(self, tokens: Sequence[int]) -> int:
        """Remember `tokens`; how many of the first were known."""
        node, known = self._held, 0
        for token in tokens:
            if token in node.children:
                known += 1
            node = node.children.setdefault(token, _Held())
        return known


async def _pause(stop: asyncio.Event, seconds: float) -> bool:
    """Wait before the next token; whether the branch was stopped meanwhile."""
    if seconds == 0:
        await asyncio.sleep(0)
        return stop.is_set()
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True
