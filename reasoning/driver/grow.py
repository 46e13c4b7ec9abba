"""Growing branches: from a backend's events to finished paths, thinking budgets included."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from branchwise.backends.base import Backend, ExtendRequest
from branchwise.backends.extension import Broken, Ended, Tokens
from branchwise.errors import BranchwiseError
from branchwise.path import Path, StopReason, TopLogprob
from branchwise.prompts.thinking import Thinking
from branchwise.sampling import Sampling
from branchwise.usage import Usage


@dataclass(frozen=True, slots=True)
class Grown:
    """How one branch ended. `path` is what it had by then; `error` is set where it failed."""

    path: Path
    cost: Usage
    error: BranchwiseError | None = None

    @property
    def finished(self) -> bool:
        return self.error is None and self.path.stop_reason is not StopReason.CANCELLED


@dataclass(slots=True)
class _Segment:
    """The segment a branch is growing."""

    parent: Path
    key: int
    token_ids: list[int] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top: list[tuple[TopLogprob, ...]] = field(default_factory=list)

    def add(self, event: Tokens) -> None:
        self.token_ids.extend(event.token_ids)
        self.text.append(event.text)
        self.ends.extend(event.ends)
        self.logprobs.extend(event.logprobs or ())
        self.top.extend(event.top_logprobs or ())

    def path(self, reason: StopReason | None) -> Path:
        text, count = "".join(self.text), len(self.token_ids)
        return Path(
            parent=self.parent,
            key=self.key,
            token_ids=tuple(self.token_ids),
            text=text,
            ends=tuple(min(end, len(text)) for end in self.ends),
            logprobs=tuple(self.logprobs) if len(self.logprobs) == count else None,
            top_logprobs=tuple(self.top) if self.top and len(self.top) == count else None,
            stop_reason=reason,
        )


class Growth:
    """The branches of one request, growing. Make them in the order in which requests are issued."""

    def __init__(
        self,
        backend: Backend,
        path: Path,
        keys: Sequence[int],
        sampling: Sampling,
        thinking: Thinking,
    ) -> None:
        """Starts at once. `sampling.max_tokens` is the whole branch's limit. Raises BranchwiseError."""
        self._backend = backend
        self._sampling = sampling
        self._thinking = thinking
        self._segments = [_Segment(path, key) for key in keys]
        self._cancelled: set[int] = set()
        self._thoughts = self._thought_tokens(path)
        limit = self._thoughts or sampling.max_tokens
        self._extension = backend.extend(ExtendRequest(path, tuple(keys), replace(sampling, max_tokens=limit)))
        self._running = [(self._extension, copy) for copy in range(len(keys))]

    def cancel(self, copy: int) -> None:
        """Stop one branch."""
        self._cancelled.add(copy)
        extension, at = self._running[copy]
        extension.cancel(at)

    async def run(self, on_tokens: Callable[[int, Tokens], None], on_end: Callable[[int, Grown], None]) -> None:
        """Grow every branch to its end. `on_end` is called once for each."""
        async with asyncio.TaskGroup() as answering:
            async for event in self._extension:
                segment = self._segments[event.copy]
                if isinstance(event, Tokens):
                    segment.add(event)
                    on_tokens(event.copy, event)
                elif isinstance(event, Ended) and event.stop_reason is StopReason.LENGTH and self._thoughts:
                    answering.create_task(self._answer(event, on_tokens, on_end))
                else:
                    on_end(event.copy, _grown(segment, event, Usage()))

    def _thought_tokens(self, path: Path) -> int | None:
        """Tokens the branch may think before its answer is asked for; None where no limit applies."""
        budget, limit = self._thinking.budget, self._sampling.max_tokens or 0
        if budget is None or self._thinking.close in path.answer_text:
            return None
        left = max(1, budget - path.generated)
        return left if left < limit else None

    async def _answer(
        self, thought: Ended, on_tokens: Callable[[int, Tokens], None], on_end: Callable[[int, Grown], None]
    ) -> None:
        """Close a branch's thoughts, unless they are closed, and let it go on as the same sample."""
        copy, segment = thought.copy, self._segments[thought.copy]
        path = segment.path(None)
        try:
            if self._thinking.close not in path.answer_text:
                path = await self._backend.force(path, self._thinking.closing)
            left = (self._sampling.max_tokens or 0) - len(segment.token_ids)
            if copy in self._cancelled:
                on_end(copy, _grown(segment, replace(thought, stop_reason=StopReason.CANCELLED), Usage()))
                return
            request = ExtendRequest(path, (segment.key,), replace(self._sampling, max_tokens=left))
            extension = self._backend.extend(request)
        except BranchwiseError as error:
            on_end(copy, Grown(path, _discard(thought.cost), error))
            return
        self._running[copy] = (extension, 0)
        answer = _Segment(path, segment.key)
        async for event in extension:
            if isinstance(event, Tokens):
                answer.add(event)
                on_tokens(copy, event)
            else:
                on_end(copy, _grown(answer, event, thought.cost))


def _grown(segment: _Segment, event: Ended | Broken, before: Usage) -> Grown:
    """How a branch ended; `before` is what its earlier segments cost."""
    cost = before + event.cost
    if isinstance(event, Broken):
        return Grown(segment.path(None), _discard(cost), event.error)
    if event.stop_reason is StopReason.CANCELLED:
        cost = _discard(cost)
    return Grown(segment.path(event.stop_reason), cost)


def _discard(cost: Usage) -> Usage:
    return cost.model_copy(update={"discarded": cost.sampled})
