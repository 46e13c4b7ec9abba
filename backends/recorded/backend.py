"""Backend that answers from records and passes other requests to another backend. The evaluation uses it for pools."""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import asdict, replace

from pydantic import BaseModel

from branchwise.backends.base import Backend, Capabilities, ExtendRequest, Scores
from branchwise.backends.recorded.record import (
    Entry,
    Record,
    RecordedBranch,
    RecordedPrompt,
    RecordedScores,
    RecordedText,
)
from branchwise.backends.recorded.replay import recorded_branch, replay_branch
from branchwise.backends.stream import Broken, Ended, Extension, Tokens
from branchwise.core.errors import BackendError, BranchwiseError, CallError, ConfigError
from branchwise.core.messages import Messages
from branchwise.core.path import Path, StopReason
from branchwise.core.usage import Usage

_NO_LIMIT = 1 << 62


class RecordedBackend(Backend):
    """Backend that replays the prompts, branches and scores of its records: a key identifies one sample.

    It passes everything else to the inner backend and records the result. A replayed branch that is cancelled has the
    usage of its delivered tokens. Without an inner backend, requests that no record covers raise BackendError.
    """

    def __init__(
        self,
        capabilities: Capabilities,
        records: Sequence[Record],
        inner: Backend | None = None,
        into: Record | None = None,
    ) -> None:
        """Search `records` in order; write new entries of `inner` to `into`, which is searched last."""
        self._capabilities = capabilities
        self._inner = inner
        self._into = into
        self._records = [*records, *([into] if into is not None else [])]
        self._tasks: set[asyncio.Task[None]] = set()
        self.replayed: Counter[int] = Counter()
        """Number of replayed branches by the key of their prompt."""
        self.failure: BranchwiseError | None = None
        """First error of reading or writing a record, or None."""
        self.lacks: str | None = None
        """First request that no record covers if there is no inner backend, or None."""

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def root(self, messages: Messages, key: int) -> Path:
        name = f"root:{key:016x}"
        if self._inner is not None:
            try:
                path = await self._inner.root(messages, key)
            except ConfigError as error:
                self._put(name, RecordedPrompt(token_ids=(), refused=(error.field, error.problem, error.fix)))
                raise
            self._put(name, RecordedPrompt(token_ids=path.token_ids))
            return path
        entry = self._find(name, RecordedPrompt)
        if entry is None:
            raise self._not_recorded("a prompt")
        if entry.refused is not None:
            raise ConfigError(*entry.refused)
        return Path(parent=None, key=key, token_ids=entry.token_ids, text="", messages=messages)

    async def tokenize(self, text: str | Messages) -> tuple[int, ...] | None:
        return None if self._inner is None else await self._inner.tokenize(text)

    def extend(self, request: ExtendRequest) -> Extension:
        names = [_branch_name(request, key) for key in request.keys]
        found = [self._find_branch(name, request) for name in names]
        missing = [copy for copy, branch in enumerate(found) if branch is None]
        recorded = {copy: branch for copy, branch in enumerate(found) if branch is not None}
        inner = self._extend_inner(request, missing) if missing else None
        cancelled = {copy: asyncio.Event() for copy in recorded}

        def cancel(copy: int) -> None:
            if copy in cancelled:
                cancelled[copy].set()
            elif inner is not None:
                inner.cancel(missing.index(copy))

        extension = Extension(len(names), cancel)
        if inner is not None:
            self._spawn(self._pass_on(inner, extension, missing, names, request.sampling.logprobs))
        for copy, branch in recorded.items():
            self.replayed[request.path.root.key] += 1
            self._spawn(replay_branch(extension, copy, branch, cancelled[copy]))
        return extension

    async def score(self, path: Path, continuations: Sequence[str]) -> Scores:
        name = f"score:{path.key:016x}:{path.generated}:{_digest(list(continuations))}"
        entry = self._find(name, RecordedScores)
        if entry is not None:
            return Scores(entry.logprobs, entry.cost)
        if self._inner is None:
            raise self._not_recorded("a score")
        scores = await self._inner.score(path, continuations)
        self._put(name, RecordedScores(logprobs=scores.logprobs, cost=scores.cost))
        return scores

    async def force(self, path: Path, text: str) -> Path:
        name = f"force:{path.key:016x}:{path.generated}:{_digest(text)}"
        if self._inner is not None:
            forced = await self._inner.force(path, text)
            self._put(name, RecordedText(token_ids=forced.token_ids, ends=forced.ends))
            return forced
        entry = self._find(name, RecordedText)
        if entry is None:
            raise self._not_recorded("an end of thoughts")
        return Path(parent=path, key=path.key, token_ids=entry.token_ids, text=text, ends=entry.ends, forced=True)

    def release(self, paths: Sequence[Path]) -> None:
        if self._inner is not None:
            self._inner.release(paths)

    def clear(self) -> None:
        if self._inner is not None:
            self._inner.clear()

    def sync(self) -> None:
        """Flush new entries to disk. An error is in `failure`."""
        if self._into is not None and self.failure is None:
            try:
                self._into.sync()
            except BranchwiseError as error:
                self.failure = error

    async def close(self) -> None:
        """Stop replaying. The inner backend stays open: its owner closes it."""
        for task in list(self._tasks):
            task.cancel()

    def _extend_inner(self, request: ExtendRequest, copies: Sequence[int]) -> Extension:
        if self._inner is None:
            raise self._not_recorded("a path")
        return self._inner.extend(replace(request, keys=tuple(request.keys[copy] for copy in copies)))

    async def _pass_on(
        self, inner: Extension, extension: Extension, copies: Sequence[int], names: Sequence[str], alternatives: int
    ) -> None:
        """Deliver the events of the inner backend, and record every branch that ended.

        `copies`: the index in `extension` of each branch of `inner`.
        """
        events: list[list[Tokens]] = [[] for _ in copies]
        open_copies = set(copies)
        try:
            async for event in inner:
                copy = copies[event.copy]
                if isinstance(event, Tokens):
                    events[event.copy].append(event)
                elif isinstance(event, Ended) and event.stop_reason is not StopReason.CANCELLED:
                    self._put(names[copy], recorded_branch(events[event.copy], event, alternatives))
                extension.deliver(replace(event, copy=copy))
                if not isinstance(event, Tokens):
                    open_copies.remove(copy)
        except Exception as error:  # of the inner backend or of an unwritable entry; this task has no caller
            for copy in sorted(open_copies):
                extension.deliver(Broken(copy, CallError("backend", error), Usage()))

    def _find(self, name: str, kind: type[Entry]) -> Entry | None:
        """Return the entry of that name, or None.

        Raises ConfigError if it cannot be read. Strategies continue without the branch, so `failure` keeps the error.
        """
        try:
            return next((entry for record in self._records if (entry := record.get(name, kind)) is not None), None)
        except ConfigError as error:
            self.failure = self.failure or error
            raise

    def _find_branch(self, name: str, request: ExtendRequest) -> RecordedBranch | None:
        """Return a recorded branch that the request would sample alike, or None.

        The names ignore limits and alternatives: a branch with another limit fits if it ends within both.
        """
        branch, sampling = self._find(name, RecordedBranch), request.sampling
        if branch is None or sampling.logprobs > branch.alternatives:
            return None
        if sampling.logprobs < branch.alternatives and branch.top_logprobs is not None:
            rows = tuple(row[: sampling.logprobs] for row in branch.top_logprobs) if sampling.logprobs else None
            branch = branch.model_copy(update={"top_logprobs": rows})
        count, limit = len(branch.token_ids) or len(branch.logprobs or ()), sampling.max_tokens or _NO_LIMIT
        fits = count == limit if branch.stop_reason is StopReason.LENGTH else count <= limit
        return branch if fits else None

    def _put(self, name: str, entry: BaseModel) -> None:
        if self._into is None or self.failure is not None:
            return
        try:
            self._into.put(name, entry)
        except BranchwiseError as error:  # the answer is still valid; the evaluation checks `failure`
            self.failure = error

    def _not_recorded(self, request: str) -> BackendError:
        self.lacks = self.lacks or request
        return BackendError(
            f"the record does not hold {request} that the strategy requests",
            retryable=False,
            hint="sample it live, with a model",
        )

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _branch_name(request: ExtendRequest, key: int) -> str:
    """Return the name of a sample: its key, the length of its path, and a digest of its sampling."""
    sampling = asdict(replace(request.sampling, max_tokens=None, logprobs=0))
    return f"branch:{key:016x}:{request.path.generated}:{_digest(sampling)}"


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
