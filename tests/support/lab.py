"""What tests of backends share: asking, growing branches through the bare seam, and what came of them."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from branchwise.backends.base import Backend, ExtendRequest
from branchwise.backends.engine.cache.node import Run
from branchwise.backends.engine.cache.radix_tree import TokenTree
from branchwise.backends.engine.engine import Engine
from branchwise.backends.stream import BranchEvent, Broken, Ended, Extension, Tokens
from branchwise.core.messages import as_messages
from branchwise.core.path import Path, StopReason
from branchwise.core.sampling import Sampling
from branchwise.core.usage import Usage

Make = Callable[..., Engine]
"""Builds an engine over a tiny model (the fixture `make`)."""
HOT = Sampling(temperature=1.0, max_tokens=24)


@dataclass
class Grown:
    """One branch, as its events tell it."""

    path: Path
    end: Ended | Broken

    @property
    def cost(self) -> Usage:
        return self.end.cost

    @property
    def finished(self) -> bool:
        return isinstance(self.end, Ended) and self.end.stop_reason is not StopReason.CANCELLED

    @property
    def tokens(self) -> tuple[int, ...]:
        return self.path.token_ids


async def hear(
    extension: Extension, parent: Path, keys: Sequence[int], react: Callable[[BranchEvent], None] = lambda _: None
) -> list[Grown]:
    """Hear every branch of a request to its end."""
    told: list[list[Tokens]] = [[] for _ in keys]
    ends: dict[int, Ended | Broken] = {}
    async with asyncio.timeout(60):
        async for event in extension:
            assert event.copy not in ends, "a branch goes on after its end"
            if isinstance(event, Tokens):
                told[event.copy].append(event)
            else:
                ends[event.copy] = event
            react(event)
    return [Grown(_path(parent, key, told[copy], ends[copy]), ends[copy]) for copy, key in enumerate(keys)]


def _path(parent: Path, key: int, told: Sequence[Tokens], end: Ended | Broken) -> Path:
    shown = "".join(event.text for event in told)
    trimmed = end.trimmed if isinstance(end, Ended) else ""
    return Path(
        parent=parent,
        key=key,
        token_ids=tuple(token for event in told for token in event.token_ids),
        text=shown + trimmed,
        ends=tuple(place for event in told for place in event.ends),
        logprobs=tuple(value for event in told for value in event.logprobs or ()),
        top_logprobs=tuple(row for event in told for row in event.top_logprobs or ()),
        stop_reason=end.stop_reason if isinstance(end, Ended) else None,
        shown=len(shown) if trimmed else None,
    )


async def ask(backend: Backend, question: str = "What is 6 times 7?") -> Path:
    """The path of a prompt."""
    return await backend.root(as_messages(question), key=1)


async def grow(backend: Backend, path: Path, keys: Sequence[int], sampling: Sampling = HOT) -> list[Grown]:
    """The branches of one request, in order."""
    return await hear(backend.extend(ExtendRequest(path, tuple(keys), sampling)), path, keys)


async def tokens(backend: Backend, path: Path, keys: Sequence[int], sampling: Sampling = HOT) -> list[tuple[int, ...]]:
    return [branch.tokens for branch in await grow(backend, path, keys, sampling)]


def runs_of(tree: TokenTree) -> Iterator[Run]:
    """Every run of an engine's token tree."""
    stack = list(tree.root.children.values())
    while stack:
        run = stack.pop()
        yield run
        stack.extend(run.children.values())
