"""What the engine's loop works on: jobs that wait for their tokens to be held, and the branches they start."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from branchwise.backends.base import Scores
from branchwise.backends.engine.cache.node import Cursor
from branchwise.backends.engine.cache.radix_tree import TokenTree
from branchwise.backends.engine.cache.snapshots import Snapshots, State
from branchwise.backends.stream import Extension
from branchwise.backends.tokenization.detokenizer import TextStream
from branchwise.core.sampling import Sampling
from branchwise.core.usage import Drafted, Usage


@dataclass(slots=True, eq=False)
class LiveBranch:
    """One branch of a request. While it runs, `cursor` is behind everything that is computed: all of its tokens
    but the last drawn. (Where a recurrent model's drafts were wrong, those that were right are computed again.)"""

    extension: Extension
    copy: int
    key: int
    sampling: Sampling
    text: TextStream
    given: tuple[int, ...]
    priority: int
    question: int  # the same for all branches that go back to one prompt
    order: int = -1  # among all requests, by arrival
    drawn: list[int] = field(default_factory=list)
    cursor: Cursor | None = None  # None while it waits and once it is done
    state: State | None = None  # at the cursor, of a recurrent model
    hidden: Tensor | None = None  # [1, hidden_size] what the output head read there
    reused: int = 0
    prefilled: int = 0
    passes: float = 0.0
    drafted: Counter[str] = field(default_factory=Counter)  # by drafter
    accepted: Counter[str] = field(default_factory=Counter)
    done: bool = False

    def pending(self) -> tuple[int, ...]:
        """What it drew behind the cursor."""
        assert self.cursor is not None
        return tuple(self.drawn[self.cursor.depth - len(self.given) - len(self.drawn) :])

    def recent(self, count: int) -> Sequence[int]:
        """The last tokens of the path, at most `count`."""
        if len(self.drawn) >= count:
            return self.drawn[-count:]
        return (*self.given[-count:], *self.drawn)[-count:]

    def cost(self, *, discarded: bool) -> Usage:
        """What this branch has cost so far."""
        sampled = len(self.drawn)
        return Usage(
            prompt=self.reused + self.prefilled,
            reused=self.reused,
            prefilled=self.prefilled,
            sampled=sampled,
            discarded=sampled if discarded else 0,
            drafted=self.drafted.total(),
            accepted=self.accepted.total(),
            drafters={name: Drafted(drafted=n, accepted=self.accepted[name]) for name, n in self.drafted.items()},
            forward_passes=self.passes,
        )


@dataclass(slots=True, eq=False)
class Job:
    """Something that can begin once its tokens are held."""

    tokens: tuple[int, ...]
    priority: int = 0  # lower is served first
    order: int = -1  # among all requests, by arrival
    cursor: Cursor | None = None  # how far the tokens are held and kept for it; None: not looked at yet
    computed: int = 0  # tokens computed for it and not charged yet
    passes: float = 0.0  # its share in them
    logits: Tensor | None = None  # [1, vocabulary] after the last token, where they were computed for it
    state: State | None = None  # at the cursor, of a recurrent model; None at the start of a path
    hidden: Tensor | None = None  # [1, hidden_size] what the output head read there

    @property
    def depth(self) -> int:
        """How many of the tokens are held."""
        return 0 if self.cursor is None else self.cursor.depth

    def resume(self, tree: TokenTree, snapshots: Snapshots) -> None:
        """Stand at the last held token whose state was kept."""
        if self.cursor is not None:
            return
        place, mark = tree.marked(tree.match(self.tokens))
        self.cursor = tree.pin(place)
        self.state = None if mark is None else snapshots.use(mark)
        self.hidden = None if mark is None else mark.hidden

    def follow(self, tree: TokenTree, rereadable: bool) -> None:
        """Go on to the last held token from which logits after all the tokens can be had."""
        if self.cursor is None:
            self.cursor = tree.pin(tree.match(self.tokens))
        at = self.depth
        for token, slot in zip(self.tokens[at:], tree.ahead(self.cursor, self.tokens[at:]), strict=False):
            tree.advance(self.cursor, token, slot)
        if self.depth < len(self.tokens):
            return
        if self.logits is None and not (rereadable and tree.readable(self.cursor.place)):
            tree.retreat(self.cursor)

    def let_go(self, tree: TokenTree) -> None:
        """Keep nothing held any more."""
        if self.cursor is not None:
            tree.release(self.cursor)
            self.cursor = self.state = self.hidden = None


@dataclass(slots=True, eq=False)
class StartJob(Job):
    """Start branches behind the tokens; one that was preempted starts again behind what it had drawn."""

    waiting: list[LiveBranch] = field(default_factory=list)
    begun: bool = False  # whether a branch of it has started: then nothing is left to charge

    def open(self) -> list[LiveBranch]:
        """The branches that still wait."""
        self.waiting = [branch for branch in self.waiting if not branch.done]
        return self.waiting

    def charge(self, branch: LiveBranch) -> None:
        """The first branch to start pays for what was computed; the others reuse all of it."""
        self.begun = True
        branch.prefilled += self.computed
        branch.reused += max(0, self.depth - self.computed)
        branch.passes += self.passes
        self.computed, self.passes = 0, 0.0


@dataclass(slots=True, eq=False)
class ScoreJob(Job):
    """Log-probabilities of given tokens after a path."""

    continuations: tuple[tuple[int, ...], ...] = ()
    future: "asyncio.Future[Scores] | None" = None

    def cost(self) -> Usage:
        """What it costs, its own pass aside."""
        return Usage(
            prompt=max(self.computed, self.depth),
            reused=max(0, self.depth - self.computed),
            prefilled=self.computed,
            scored=sum(map(len, self.continuations)),
            forward_passes=self.passes,
        )
