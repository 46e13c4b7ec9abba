"""A backend that answers from records what was drawn before, and asks another for the rest."""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import asdict, replace

from pydantic import BaseModel

from branchwise.backends.base import Backend, Capabilities, ExtendRequest, Scores
from branchwise.backends.recorded.record import Drawn, Entry, Prompted, Record, ScoredTexts, Spelled
from branchwise.backends.stream import Broken, Ended, Extension, Tokens
from branchwise.core.errors import BackendError, BranchwiseError, CallError, ConfigError
from branchwise.core.messages import Messages
from branchwise.core.path import Path, StopReason, TopLogprob
from branchwise.core.usage import Usage

_PIECE = 8  # tokens told at a time, as of a model that draws them
_TURNS = 8  # of the event loop between pieces: a strategy hears a piece and may stop the branch


class RecordedBackend(Backend):
    """Branches, scores and prompts that a record holds come from it, as they came when they were drawn: a key names
    one sample. Whatever is drawn by the backend behind it is recorded.

    A branch that is stopped costs what was told by then. Without a backend behind it, what no record holds fails with
    a BackendError.
    """

    def __init__(
        self,
        capabilities: Capabilities,
        records: Sequence[Record],
        inner: Backend | None = None,
        into: Record | None = None,
    ) -> None:
        """`records` are asked in order; `into` is where what `inner` draws is kept."""
        self._capabilities, self._inner, self._into = capabilities, inner, into
        self._records = [*records, *([into] if into is not None else [])]
        self._tasks: set[asyncio.Task[None]] = set()
        self.replayed: Counter[int] = Counter()
        """Branches that came from a record, by the key of their prompt."""
        self.failure: BranchwiseError | None = None
        """What went wrong with a record, once something did: with reading what is in it, or with adding to it."""
        self.lacks: str | None = None
        """What was asked for first that no record holds, where there is no backend to draw it."""

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def root(self, messages: Messages, key: int) -> Path:
        name = f"root:{key:016x}"
        if self._inner is not None:
            try:
                path = await self._inner.root(messages, key)
            except ConfigError as error:
                self._put(name, Prompted(token_ids=(), refused=(error.field, error.problem, error.fix)))
                raise
            self._put(name, Prompted(token_ids=path.token_ids))
            return path
        kept = self._find(name, Prompted)
        if kept is None:
            raise self._lacking("a prompt")
        if kept.refused is not None:
            raise ConfigError(*kept.refused)
        return Path(parent=None, key=key, token_ids=kept.token_ids, text="", messages=messages)

    def extend(self, request: ExtendRequest) -> Extension:
        names = [_branch_name(request, key) for key in request.keys]
        kept = [self._fitting(name, request) for name in names]
        fresh = [copy for copy, drawn in enumerate(kept) if drawn is None]
        asked = self._ask(request, fresh) if fresh else None
        stops = {copy: asyncio.Event() for copy, drawn in enumerate(kept) if drawn is not None}

        def cancel(copy: int) -> None:
            if copy in stops:
                stops[copy].set()
            elif asked is not None:
                asked.cancel(fresh.index(copy))

        extension = Extension(len(names), cancel)
        if asked is not None:
            self._spawn(self._pass_on(asked, extension, fresh, names, request.sampling.logprobs))
        for copy, stop in stops.items():
            drawn = kept[copy]
            assert drawn is not None
            self.replayed[request.path.root.key] += 1
            self._spawn(_tell(extension, copy, drawn, stop))
        return extension

    async def score(self, path: Path, continuations: Sequence[str]) -> Scores:
        name = f"score:{path.key:016x}:{path.generated}:{_digest(list(continuations))}"
        kept = self._find(name, ScoredTexts)
        if kept is None:
            if self._inner is None:
                raise self._lacking("a score")
            scores = await self._inner.score(path, continuations)
            self._put(name, ScoredTexts(logprobs=scores.logprobs, cost=scores.cost))
            return scores
        return Scores(kept.logprobs, kept.cost)

    async def force(self, path: Path, text: str) -> Path:
        name = f"force:{path.key:016x}:{path.generated}:{_digest(text)}"
        if self._inner is not None:
            forced = await self._inner.force(path, text)
            self._put(name, Spelled(token_ids=forced.token_ids, ends=forced.ends))
            return forced
        kept = self._find(name, Spelled)
        if kept is None:
            raise self._lacking("an end of thoughts")
        return Path(parent=path, key=path.key, token_ids=kept.token_ids, text=text, ends=kept.ends, forced=True)

    def release(self, paths: Sequence[Path]) -> None:
        if self._inner is not None:
            self._inner.release(paths)

    def clear(self) -> None:
        if self._inner is not None:
            self._inner.clear()

    async def close(self) -> None:
        """The backend behind it stays open: it is its owner's."""
        for task in list(self._tasks):
            task.cancel()

    def _ask(self, request: ExtendRequest, copies: Sequence[int]) -> Extension:
        if self._inner is None:
            raise self._lacking("a path")
        return self._inner.extend(replace(request, keys=tuple(request.keys[copy] for copy in copies)))

    async def _pass_on(
        self, asked: Extension, extension: Extension, copies: Sequence[int], names: Sequence[str], alternatives: int
    ) -> None:
        """Hand over what the backend behind draws, and record every branch that ended."""
        heard: list[list[Tokens]] = [[] for _ in copies]
        open_ = dict.fromkeys(copies)
        try:
            async for event in asked:
                told = replace(event, copy=copies[event.copy])
                if isinstance(event, Tokens):
                    heard[event.copy].append(event)
                elif isinstance(event, Ended) and event.stop_reason is not StopReason.CANCELLED:
                    self._put(names[told.copy], _drawn(heard[event.copy], event, alternatives))
                extension.deliver(told)
                if not isinstance(event, Tokens):
                    del open_[told.copy]
        except Exception as error:  # of the backend behind, or what it drew can't be kept: nobody else would hear of it
            for copy in open_:
                extension.deliver(Broken(copy, CallError("backend", error), Usage()))

    def _find(self, name: str, kind: type[Entry]) -> Entry | None:
        """What the records hold under a name. Raises ConfigError where it can't be read; a strategy would make do
        without it, so that `failure` says so, too."""
        try:
            return next((kept for record in self._records if (kept := record.get(name, kind)) is not None), None)
        except ConfigError as error:
            self.failure = self.failure or error
            raise

    def _fitting(self, name: str, request: ExtendRequest) -> Drawn | None:
        """A recorded branch, unless its limit was another and would show."""
        drawn, sampling = self._find(name, Drawn), request.sampling
        if drawn is None:
            return None
        if sampling.logprobs > drawn.alternatives:
            return None
        if sampling.logprobs < drawn.alternatives and drawn.top_logprobs is not None:
            rows = tuple(row[: sampling.logprobs] for row in drawn.top_logprobs) if sampling.logprobs else None
            drawn = drawn.model_copy(update={"top_logprobs": rows})
        count, most = len(drawn.token_ids) or len(drawn.logprobs or ()), sampling.max_tokens or 1 << 62
        fits = count == most if drawn.stop_reason is StopReason.LENGTH else count <= most
        return drawn if fits else None

    def _put(self, name: str, entry: BaseModel) -> None:
        if self._into is None or self.failure is not None:
            return
        try:
            self._into.put(name, entry)
        except BranchwiseError as error:  # no answer is lost for it; whoever runs this asks for `failure`
            self.failure = error

    def _lacking(self, what: str) -> BackendError:
        self.lacks = self.lacks or what
        return BackendError(
            f"the record does not hold {what} that the strategy asks for",
            retryable=False,
            hint="draw it live, with a model",
        )

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _drawn(events: Sequence[Tokens], end: Ended, alternatives: int) -> Drawn:
    """A branch from what was told of it."""
    logprobs = bool(events) and all(event.logprobs is not None for event in events)
    others = bool(events) and all(event.top_logprobs is not None for event in events)
    rows = (row for event in events for row in event.top_logprobs or ())
    return Drawn(
        token_ids=tuple(token for event in events for token in event.token_ids),
        text="".join(event.text for event in events),
        ends=tuple(place for event in events for place in event.ends),
        logprobs=tuple(value for event in events for value in event.logprobs or ()) if logprobs else None,
        top_logprobs=tuple(map(tuple, rows)) if others else None,
        alternatives=alternatives,
        stop_reason=end.stop_reason,
        trimmed=end.trimmed,
        cost=end.cost,
    )


async def _tell(extension: Extension, copy: int, drawn: Drawn, stop: asyncio.Event) -> None:
    """Tell a recorded branch piece by piece, as far as it is wanted."""
    told = 0
    for event in _pieces(copy, drawn):
        extension.deliver(event)
        told += len(event.token_ids)
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        if stop.is_set() and told < len(drawn.token_ids):
            extension.deliver(Ended(copy, StopReason.CANCELLED, _part(drawn, told)))
            return
    extension.deliver(Ended(copy, drawn.stop_reason, drawn.cost, drawn.trimmed))


def _pieces(copy: int, drawn: Drawn) -> Iterator[Tokens]:
    count, sent = len(drawn.token_ids), 0
    if not count and (drawn.text or drawn.logprobs):  # a backend that shows no tokens
        yield Tokens(copy, (), drawn.text, (), drawn.logprobs, None)
    for start in range(0, count, _PIECE):
        piece = slice(start, start + _PIECE)
        ends = drawn.ends[piece]
        until = len(drawn.text) if start + _PIECE >= count or not ends else min(ends[-1], len(drawn.text))
        top = None if drawn.top_logprobs is None else drawn.top_logprobs[piece]
        yield Tokens(
            copy,
            drawn.token_ids[piece],
            drawn.text[sent:until],
            ends,
            None if drawn.logprobs is None else drawn.logprobs[piece],
            None if top is None else tuple(tuple(TopLogprob(*other) for other in row) for row in top),
        )
        sent = until


def _part(drawn: Drawn, tokens: int) -> Usage:
    """What the first tokens of a branch cost."""
    passes = drawn.cost.forward_passes * tokens / len(drawn.token_ids)
    update = {"sampled": tokens, "discarded": tokens, "drafted": 0, "accepted": 0, "drafters": {}}
    return drawn.cost.model_copy(update={**update, "forward_passes": passes})


def _branch_name(request: ExtendRequest, key: int) -> str:
    """A sample's key, how far its path had come, and how it is drawn."""
    drawn = asdict(replace(request.sampling, max_tokens=None, logprobs=0))
    return f"branch:{key:016x}:{request.path.generated}:{_digest(drawn)}"


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
