"""What the engine's loop works on: jobs, and the branches that grow from them."""

import asyncio
from dataclasses import dataclass, field

from torch import Tensor

from branchwise.backends.base import ExtendRequest, Scores
from branchwise.backends.engine.store import Node
from branchwise.backends.engine.text import TextStream
from branchwise.backends.extension import Extension
from branchwise.sampling import Sampling
from branchwise.usage import Usage


@dataclass(slots=True, eq=False)
class Branch:
    """One growing branch. `node` holds what was computed; `pending` is drawn but not computed yet."""

    job: "ExtendJob"
    copy: int
    key: int
    text: TextStream
    node: Node | None = None
    pending: int = -1
    row: int = -1  # in the batch's slot table; -1 while it waits and once it is done
    sampled: int = 0
    reused: int = 0
    prefilled: int = 0
    passes: float = 0.0
    done: bool = False

    @property
    def sampling(self) -> Sampling:
        return self.job.request.sampling

    def cost(self, *, discarded: bool) -> Usage:
        """What this branch has cost so far."""
        return Usage(
            prompt=self.reused + self.prefilled,
            reused=self.reused,
            prefilled=self.prefilled,
            sampled=self.sampled,
            discarded=self.sampled if discarded else 0,
            forward_passes=self.passes,
        )


@dataclass(slots=True, eq=False)
class Input:
    """The tokens a job starts from, and how far they are held."""

    tokens: tuple[int, ...]
    node: Node  # the deepest node so far; counted as running while the job needs it
    held: int  # tokens that were held when the job's turn came
    passes: float = 0.0
    logits: Tensor | None = None  # [1, vocabulary] after the last token, where it was computed for this job

    @property
    def done(self) -> int:
        """How many tokens are held now."""
        return self.node.depth


@dataclass(slots=True, eq=False)
class ExtendJob:
    """Grow branches: the input is prefilled once, then the branches start as there is room."""

    request: ExtendRequest
    extension: Extension
    tokens: tuple[int, ...]
    input: Input | None = None  # from when its turn comes
    waiting: list[Branch] = field(default_factory=list)
    branches: list[Branch] = field(default_factory=list)

    @property
    def priority(self) -> int:
        return self.request.priority


@dataclass(slots=True, eq=False)
class ScoreJob:
    """Log-probabilities of given tokens after a path."""

    tokens: tuple[int, ...]
    continuations: tuple[tuple[int, ...], ...]
    future: asyncio.Future[Scores]
    loop: asyncio.AbstractEventLoop
    input: Input | None = None
    priority: int = 0


Job = ExtendJob | ScoreJob
