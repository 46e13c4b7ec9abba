"""Helpers for tests of backends: make prompts, generate branches through the backend interface, collect results."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from branchwise.backends.base import Backend, ExtendRequest
from branchwise.backends.engine.cache.node import RadixNode
from branchwise.backends.engine.cache.radix_tree import RadixTree
from branchwise.backends.engine.engine import Engine
from branchwise.backends.stream import BranchEvent, Broken, Ended, Extension, Tokens
from branchwise.core.path import Path, StopReason
from branchwise.core.question import as_messages
from branchwise.core.sampling import Sampling
from branchwise.core.usage import Usage

MakeEngine = Callable[..., Engine]
"""Type of the fixture `make_engine`: it makes an engine over a tiny model."""
SAMPLING = Sampling(temperature=1.0, max_tokens=24)


@dataclass
class BranchResult:
    """A finished branch, put together from its events."""

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


async def collect(
    extension: Extension, parent: Path, keys: Sequence[int], react: Callable[[BranchEvent], None] = lambda _: None
) -> list[BranchResult]:
    """Iterate over a request's events to the end of every branch, calling `react` with each. Return the branches."""
    received: list[list[Tokens]] = [[] for _ in keys]
    ends: dict[int, Ended | Broken] = {}
    async with asyncio.timeout(60):
        async for event in extension:
            assert event.copy not in ends, "an event after the branch's end"
            if isinstance(event, Tokens):
                received[event.copy].append(event)
            else:
                ends[event.copy] = event
            react(event)
    return [BranchResult(_path(parent, key, received[copy], ends[copy]), ends[copy]) for copy, key in enumerate(keys)]


def _path(parent: Path, key: int, events: Sequence[Tokens], end: Ended | Broken) -> Path:
    shown = "".join(event.text for event in events)
    trimmed = end.trimmed if isinstance(end, Ended) else ""
    return Path(
        parent=parent,
        key=key,
        token_ids=tuple(token for event in events for token in event.token_ids),
        text=shown + trimmed,
        ends=tuple(place for event in events for place in event.ends),
        logprobs=tuple(value for event in events for value in event.logprobs or ()),
        top_logprobs=tuple(row for event in events for row in event.top_logprobs or ()),
        stop_reason=end.stop_reason if isinstance(end, Ended) else None,
        shown=len(shown) if trimmed else None,
    )


async def make_root(backend: Backend, question: str = "What is 6 times 7?") -> Path:
    """Return the path of a prompt."""
    return await backend.root(as_messages(question), key=1)


async def generate(
    backend: Backend, path: Path, keys: Sequence[int], sampling: Sampling = SAMPLING
) -> list[BranchResult]:
    """Return the branches of one request, in the order of their keys."""
    return await collect(backend.extend(ExtendRequest(path, tuple(keys), sampling)), path, keys)


async def generate_tokens(
    backend: Backend, path: Path, keys: Sequence[int], sampling: Sampling = SAMPLING
) -> list[tuple[int, ...]]:
    """Return the tokens of the branches of one request, in the order of their keys."""
    return [branch.tokens for branch in await generate(backend, path, keys, sampling)]


def nodes_of(tree: RadixTree) -> Iterator[RadixNode]:
    """Yield every node of a radix tree except the root."""
    stack = list(tree.root.children.values())
    while stack:
        node = stack.pop()
        yield node
        stack.extend(node.children.values())
