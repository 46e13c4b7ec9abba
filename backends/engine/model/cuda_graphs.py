"""Decoding steps of fixed shapes, recorded once on a GPU and replayed.

Launching the thousand kernels of a step takes a GPU longer than most of them run; a CUDA graph launches
them as one, if every shape and address stays. So rows, shared slots and own slots are rounded up to
buckets, and what a step has less of is padding: rows that write to the trash slot, slots nobody sees.
"""

from array import array
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from branchwise.backends.engine.cache.kv_pool import TRASH, Pool
from branchwise.backends.engine.cache.node import Run
from branchwise.backends.engine.model.llama import LlamaDecoder
from branchwise.backends.engine.model.plan import Plan, Reads, Segment, Tails, Tip, worth_a_segment

_LEAST_SHARED, _LEAST_OWN = 256, 64
_MOST_SHAPES = 64  # each keeps a graph; further ones are computed as they come
_WARM_UPS = 2  # before a recording, as libraries set themselves up at a first call


class Shape(NamedTuple):
    """The buckets of a step."""

    rows: int
    shared: int  # slots read once for all rows, each of which sees some of them
    own: int  # slots each row reads for itself

    @classmethod
    def of(cls, rows: int, shared: int, own: int) -> "Shape":
        """The smallest buckets that hold so many."""
        return cls(_bucket(rows, 1), _bucket(shared, _LEAST_SHARED) if shared else 0, _bucket(own, _LEAST_OWN))


class Computed(NamedTuple):
    """What a step computed, valid until the next one."""

    logits: Tensor  # [rows, vocabulary]
    hidden: Tensor  # [rows, hidden_size]


class _Step:
    """The inputs of one shape, and the graph that reads them."""

    def __init__(self, shape: Shape, device: torch.device) -> None:
        def empty(*size: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(size, dtype=dtype, device=device)

        self.shape = shape
        self.tokens, self.positions, self.written = (empty(shape.rows) for _ in range(3))
        self.shared, self.unseen = empty(shape.shared), empty(shape.rows, shape.shared, dtype=torch.bool)
        self.own, self.padding = empty(shape.rows * shape.own), empty(shape.rows, shape.own, dtype=torch.bool)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.out: Computed | None = None

    def plan(self, pool: Pool) -> Plan:
        """Reads these inputs, whatever they hold."""
        segments = [Segment(self.shared, None, self.unseen)] if self.shape.shared else []
        reads = Reads(segments, [Tails(None, 1, self.own, self.padding[:, None])], None)
        return Plan.fixed(pool, self.written, self.shape.rows, reads)

    def fill(self, tokens: Sequence[int], positions: Sequence[int], written: Sequence[int], reads: "_Slots") -> None:
        """Put a step's inputs in place."""
        rows, shared, own = self.shape
        wide = np.zeros((3, rows), dtype=np.int64)
        wide[2] = TRASH
        wide[:, : len(tokens)] = (tokens, positions, written)
        for kept, values in zip((self.tokens, self.positions, self.written), wide, strict=True):
            kept.copy_(torch.from_numpy(values))
        table = np.full((rows, own), TRASH, dtype=np.int64)
        padding = np.ones((rows, own), dtype=bool)
        padding[:, 0] = False  # a row that sees nothing would be no number
        for row, slots in enumerate(reads.own):
            table[row, : len(slots)] = slots
            padding[row, : len(slots)] = False
        self.own.copy_(torch.from_numpy(table.ravel()))
        self.padding.copy_(torch.from_numpy(padding))
        if shared:
            index, unseen = np.full(shared, TRASH, dtype=np.int64), np.ones((rows, shared), dtype=bool)
            index[: len(reads.shared)] = reads.shared
            for row, parts in enumerate(reads.seen):
                for start, end in parts:
                    unseen[row, start:end] = False
            self.shared.copy_(torch.from_numpy(index))
            self.unseen.copy_(torch.from_numpy(unseen))


class _Slots(NamedTuple):
    """What rows read."""

    shared: "array[int]"
    seen: Sequence[Sequence[tuple[int, int]]]  # [rows] parts of the shared slots
    own: Sequence["array[int]"]  # [rows]

    @classmethod
    def of(cls, tips: Sequence[Tip]) -> "_Slots":
        readers: dict[Run, int] = {}
        for tip in tips:
            for run, offset in tip.before:
                if offset == len(run.slots):
                    readers[run] = readers.get(run, 0) + 1
        place, at, parts = dict[Run, tuple[int, int]](), 0, array("q")
        for run, count in readers.items():
            if worth_a_segment(run, count):
                place[run] = (at, at + len(run.slots))
                at += len(run.slots)
                parts += run.slots
        seen: list[list[tuple[int, int]]] = []
        own: list[array[int]] = []
        for tip in tips:
            parts_seen, slots = list[tuple[int, int]](), array("q")
            for run, offset in tip.before:
                if run in place and offset == len(run.slots):
                    parts_seen.append(place[run])
                else:
                    slots += run.slots[:offset]
            slots.extend(tip.slots)
            seen.append(parts_seen)
            own.append(slots)
        return cls(parts, seen, own)


class FixedSteps:
    """Computes decoding steps over one pool by their shapes."""

    def __init__(self, decoder: LlamaDecoder, head: nn.Module, pool: Pool) -> None:
        self.pool = pool
        self._decoder, self._head = decoder, head
        self._steps: dict[Shape, _Step] = {}

    def compute(self, tokens: Sequence[int], positions: Sequence[int], plan: Plan) -> Computed | None:
        """The step of a plan without spans; None where it must be computed as it is."""
        window = self._decoder.window
        drafts = plan.decoding > len(plan.tips)
        if drafts or not self.pool.keys or (window is not None and max(positions) >= window):
            return None
        reads = _Slots.of(plan.tips)
        shape = Shape.of(len(plan.tips), len(reads.shared), max(map(len, reads.own)))
        if shape not in self._steps and len(self._steps) == _MOST_SHAPES:
            return None
        step = self._steps.setdefault(shape, _Step(shape, self.pool.device))
        if step.out is None and self.pool.device.type == "cuda":
            self._record(step)
        written = range(self.pool.size + 1)[plan.written] if isinstance(plan.written, slice) else plan.written.tolist()
        step.fill(tokens, positions, written, reads)
        if step.graph is not None:
            step.graph.replay()
        else:
            step.out = self._run(step)
        assert step.out is not None
        return Computed(*(part[: len(tokens)] for part in step.out))

    def _run(self, step: _Step) -> Computed:
        hidden = self._decoder(step.tokens, step.positions, step.plan(self.pool), range(step.shape.rows))
        return Computed(self._head(hidden), hidden)

    def _record(self, step: _Step) -> None:
        """With its inputs still empty: what it writes goes to the trash slot."""
        side = torch.cuda.Stream(self.pool.device)
        side.wait_stream(torch.cuda.current_stream(self.pool.device))
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                self._run(step)
        torch.cuda.current_stream(self.pool.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        others = next((other.graph for other in self._steps.values() if other.graph is not None), None)
        shared = None if others is None else others.pool()
        # Other threads may go on using the GPU.
        with torch.cuda.graph(graph, pool=shared, capture_error_mode="thread_local"):
            step.out = self._run(step)
        step.graph = graph


def _bucket(count: int, least: int) -> int:
    """The smallest power of two times `least` that is not smaller."""
    size = least
    while size < count:
        size *= 2
    return size
