"""A branch of the engine. The scheduler runs it, drafters and the verifier read its tokens."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from branchwise.backends.engine.cache.node import Cursor
from branchwise.backends.engine.cache.snapshots import State
from branchwise.backends.live_branch import LiveBranch
from branchwise.core.usage import DrafterUsage, Usage


@dataclass(slots=True, eq=False)
class EngineBranch(LiveBranch):
    """A branch of the engine. While it runs, its cursor is after all computed tokens: all but the last one sampled.

    When a recurrent model's drafts were rejected, the cursor is further back: the accepted ones are computed again.
    """

    prompt_hash: int  # equal for all branches of one prompt
    arrival: int = -1  # order of arrival of its request
    sampled: list[int] = field(default_factory=list)
    cursor: Cursor | None = None  # None while it waits and after its end
    state: State | None = None  # recurrent state at the cursor
    hidden: Tensor | None = None  # [1, hidden_size] input of the output head at the cursor
    reused: int = 0
    prefilled: int = 0
    passes: float = 0.0
    drafted: Counter[str] = field(default_factory=Counter)  # by drafter
    accepted: Counter[str] = field(default_factory=Counter)  # by drafter
    done: bool = False

    def pending(self) -> tuple[int, ...]:
        """Return the sampled tokens after the cursor."""
        assert self.cursor is not None
        return tuple(self.sampled[self.cursor.depth - len(self.prefix) - len(self.sampled) :])

    def recent(self, count: int) -> Sequence[int]:
        """Return the last tokens of the path, at most `count`."""
        if len(self.sampled) >= count:
            return self.sampled[-count:]
        return (*self.prefix[-count:], *self.sampled)[-count:]

    def cost(self, *, discarded: bool) -> Usage:
        """Return the usage so far; with `discarded`, the sampled tokens count as discarded."""
        sampled = len(self.sampled)
        return Usage(
            prompt=self.reused + self.prefilled,
            reused=self.reused,
            prefilled=self.prefilled,
            sampled=sampled,
            discarded=sampled if discarded else 0,
            drafted=self.drafted.total(),
            accepted=self.accepted.total(),
            drafters={name: DrafterUsage(drafted=n, accepted=self.accepted[name]) for name, n in self.drafted.items()},
            forward_passes=self.passes,
        )
