"""Requests of the step loop: they wait until their tokens are cached, then start branches or score continuations."""

import asyncio
from dataclasses import dataclass, field

from torch import Tensor

from branchwise.backends.base import Scores
from branchwise.backends.engine.branch import EngineBranch
from branchwise.backends.engine.cache.node import Cursor
from branchwise.backends.engine.cache.radix_tree import RadixTree
from branchwise.backends.engine.cache.snapshots import SnapshotCache, State
from branchwise.core.usage import Usage


@dataclass(slots=True, eq=False)
class Request:
    """Tokens that must be cached before the request can start."""

    tokens: tuple[int, ...]
    priority: int = 0  # lower is served first
    arrival: int = -1  # order of arrival among all requests
    cursor: Cursor | None = None  # after the tokens that are cached and pinned; None before the first match
    prefilled: int = 0  # tokens computed for it that no branch was charged for yet
    passes: float = 0.0  # share of the forward passes that computed them
    logits: Tensor | None = None  # [1, vocabulary] after the last token, where they were computed for it
    state: State | None = None  # recurrent state at the cursor; None at the root
    hidden: Tensor | None = None  # [1, hidden_size] input of the output head at the cursor

    @property
    def depth(self) -> int:
        """Number of tokens that are cached and pinned."""
        return 0 if self.cursor is None else self.cursor.depth

    def pin_snapshot(self, tree: RadixTree, snapshots: SnapshotCache) -> None:
        """Pin the longest cached prefix that has a snapshot, unless a prefix is pinned."""
        if self.cursor is not None:
            return
        position, snapshot = tree.nearest_snapshot(tree.match(self.tokens))
        self.cursor = tree.pin(position)
        self.state = None if snapshot is None else snapshots.use(snapshot)
        self.hidden = None if snapshot is None else snapshot.hidden

    def pin_prefix(self, tree: RadixTree, logits_from_hidden: bool) -> None:
        """Pin the longest cached prefix; all tokens only where the logits after them need no forward pass."""
        if self.cursor is None:
            self.cursor = tree.pin(tree.match(self.tokens))
        start = self.depth
        slots = tree.cached_slots(self.cursor, self.tokens[start:])
        for token, slot in zip(self.tokens[start : start + len(slots)], slots, strict=True):
            tree.advance(self.cursor, token, slot)
        if self.depth < len(self.tokens):
            return
        if self.logits is None and not (logits_from_hidden and tree.has_hidden(self.cursor.position)):
            tree.step_back(self.cursor)

    def unpin(self, tree: RadixTree) -> None:
        """Release the pinned tokens; they may be evicted."""
        if self.cursor is not None:
            tree.release(self.cursor)
            self.cursor = self.state = self.hidden = None


@dataclass(slots=True, eq=False)
class GenerateRequest(Request):
    """Start branches after the tokens. A preempted branch waits here with its sampled tokens appended to them."""

    waiting: list[EngineBranch] = field(default_factory=list)
    charged: bool = False  # whether a branch was charged for the computed tokens

    def open_branches(self) -> list[EngineBranch]:
        """Drop finished branches and return those that still wait."""
        self.waiting = [branch for branch in self.waiting if not branch.done]
        return self.waiting

    def charge(self, branch: EngineBranch) -> None:
        """Charge the computed tokens to a branch. The first one pays for all; the others reuse them."""
        self.charged = True
        branch.prefilled += self.prefilled
        branch.reused += max(0, self.depth - self.prefilled)
        branch.passes += self.passes
        self.prefilled, self.passes = 0, 0.0


@dataclass(slots=True, eq=False)
class ScoreRequest(Request):
    """Score continuations of the tokens."""

    continuations: tuple[tuple[int, ...], ...] = ()
    future: "asyncio.Future[Scores] | None" = None

    def cost(self) -> Usage:
        """Return the usage so far, without the pass over the continuations."""
        return Usage(
            prompt=max(self.prefilled, self.depth),
            reused=max(0, self.depth - self.prefilled),
            prefilled=self.prefilled,
            scored=sum(map(len, self.continuations)),
            forward_passes=self.passes,
        )
