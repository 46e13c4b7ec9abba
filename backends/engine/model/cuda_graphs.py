"""CUDA graphs for decode steps: captured once for each bucket of sizes, then replayed.

Launching the thousand kernels of a step takes longer than most of them run. A CUDA graph launches them as one,
but needs fixed shapes and addresses. So rows, shared slots and own slots are rounded up to buckets. The rest is
padding: rows that write to the scratch slot, and slots that no row attends to.
"""

from array import array
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from branchwise.backends.engine.cache.kv_pool import SCRATCH_SLOT, KVPool
from branchwise.backends.engine.cache.node import RadixNode
from branchwise.backends.engine.model.llama import LlamaDecoder
from branchwise.backends.engine.model.plan import (
    DecodeReads,
    DecodeSequence,
    Plan,
    Segment,
    Tails,
    is_worth_sharing,
)

_MIN_SHARED_SLOTS, _MIN_OWN_SLOTS = 256, 64
_MAX_GRAPHS = 64  # steps of further buckets run without a graph
_WARM_UPS = 2  # runs before a capture, because libraries initialize at their first call


class Bucket(NamedTuple):
    """The padded sizes of a step."""

    rows: int
    shared: int  # slots read once for all rows, each of which attends to some of them
    own: int  # slots that each row reads alone

    @classmethod
    def of(cls, rows: int, shared: int, own: int) -> "Bucket":
        """Return the smallest bucket for these sizes."""
        return cls(
            _round_up(rows, 1), _round_up(shared, _MIN_SHARED_SLOTS) if shared else 0, _round_up(own, _MIN_OWN_SLOTS)
        )


class GraphOutput(NamedTuple):
    """The output of a step, valid until the next one."""

    logits: Tensor  # [rows, vocabulary]
    hidden: Tensor  # [rows, hidden_size] inputs of the output head


class _StepReads(NamedTuple):
    """The slots that the rows of a step read."""

    shared: "array[int]"
    ranges: Sequence[Sequence[tuple[int, int]]]  # [rows] ranges of the shared slots that a row attends to
    own: Sequence["array[int]"]  # [rows]

    @classmethod
    def of(cls, sequences: Sequence[DecodeSequence]) -> "_StepReads":
        readers: dict[RadixNode, int] = {}
        for sequence in sequences:
            for node, offset in sequence.prefix:
                if offset == len(node.slots):
                    readers[node] = readers.get(node, 0) + 1
        places, end, shared = dict[RadixNode, tuple[int, int]](), 0, array("q")
        for node, count in readers.items():
            if is_worth_sharing(node, count):
                places[node] = (end, end + len(node.slots))
                end += len(node.slots)
                shared += node.slots
        ranges: list[list[tuple[int, int]]] = []
        own: list[array[int]] = []
        for sequence in sequences:
            row_ranges, slots = list[tuple[int, int]](), array("q")
            for node, offset in sequence.prefix:
                if node in places and offset == len(node.slots):
                    row_ranges.append(places[node])
                else:
                    slots += node.slots[:offset]
            slots.extend(sequence.slots)
            ranges.append(row_ranges)
            own.append(slots)
        return cls(shared, ranges, own)


class _BucketStep:
    """The input tensors of one bucket, and the graph that reads them."""

    def __init__(self, bucket: Bucket, device: torch.device) -> None:
        def empty(*size: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(size, dtype=dtype, device=device)

        self.bucket = bucket
        self.tokens, self.positions, self.slot_mapping = (empty(bucket.rows) for _ in range(3))
        self.shared = empty(bucket.shared)
        self.shared_masked = empty(bucket.rows, bucket.shared, dtype=torch.bool)
        self.own = empty(bucket.rows * bucket.own)
        self.own_masked = empty(bucket.rows, bucket.own, dtype=torch.bool)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.out: GraphOutput | None = None

    def plan(self, pool: KVPool) -> Plan:
        """Return the plan that reads these inputs, whatever their values."""
        segments = [Segment(self.shared, None, self.shared_masked)] if self.bucket.shared else []
        reads = DecodeReads(segments, [Tails(None, 1, self.own, self.own_masked[:, None])], None)
        return Plan.for_bucket(pool, self.slot_mapping, self.bucket.rows, reads)

    def fill(
        self, tokens: Sequence[int], positions: Sequence[int], slot_mapping: Sequence[int], reads: _StepReads
    ) -> None:
        """Copy a step's inputs, padded to the bucket, to the device."""
        rows, shared, own = self.bucket
        inputs = np.zeros((3, rows), dtype=np.int64)
        inputs[2] = SCRATCH_SLOT
        inputs[:, : len(tokens)] = (tokens, positions, slot_mapping)
        for target, values in zip((self.tokens, self.positions, self.slot_mapping), inputs, strict=True):
            target.copy_(torch.from_numpy(values))
        table = np.full((rows, own), SCRATCH_SLOT, dtype=np.int64)
        masked = np.ones((rows, own), dtype=bool)
        masked[:, 0] = False  # attention over no slot at all would be NaN
        for row, slots in enumerate(reads.own):
            table[row, : len(slots)] = slots
            masked[row, : len(slots)] = False
        self.own.copy_(torch.from_numpy(table.ravel()))
        self.own_masked.copy_(torch.from_numpy(masked))
        if shared:
            index, masked = np.full(shared, SCRATCH_SLOT, dtype=np.int64), np.ones((rows, shared), dtype=bool)
            index[: len(reads.shared)] = reads.shared
            for row, ranges in enumerate(reads.ranges):
                for start, end in ranges:
                    masked[row, start:end] = False
            self.shared.copy_(torch.from_numpy(index))
            self.shared_masked.copy_(torch.from_numpy(masked))


class CudaGraphRunner:
    """Decode steps over one pool, by bucket. On a CPU, it computes the same padded steps without graphs."""

    def __init__(self, decoder: LlamaDecoder, head: nn.Module, pool: KVPool) -> None:
        self.pool = pool
        self._decoder = decoder
        self._head = head
        self._steps: dict[Bucket, _BucketStep] = {}

    def run(self, tokens: Sequence[int], positions: Sequence[int], plan: Plan) -> GraphOutput | None:
        """Run the step of a plan without spans. Return None where it must run without a graph."""
        window = self._decoder.window
        has_drafts = plan.decode_rows > len(plan.sequences)
        if has_drafts or not self.pool.keys or (window is not None and max(positions) >= window):
            return None
        reads = _StepReads.of(plan.sequences)
        bucket = Bucket.of(len(plan.sequences), len(reads.shared), max(map(len, reads.own)))
        if bucket not in self._steps and len(self._steps) == _MAX_GRAPHS:
            return None
        step = self._steps.setdefault(bucket, _BucketStep(bucket, self.pool.device))
        if step.out is None and self.pool.device.type == "cuda":
            self._capture(step)
        mapping = plan.slot_mapping
        slots = range(self.pool.size + 1)[mapping] if isinstance(mapping, slice) else mapping.tolist()
        step.fill(tokens, positions, slots, reads)
        if step.graph is not None:
            step.graph.replay()
        else:
            step.out = self._compute(step)
        assert step.out is not None
        return GraphOutput(*(part[: len(tokens)] for part in step.out))

    def _compute(self, step: _BucketStep) -> GraphOutput:
        hidden = self._decoder(step.tokens, step.positions, step.plan(self.pool), range(step.bucket.rows))
        return GraphOutput(self._head(hidden), hidden)

    def _capture(self, step: _BucketStep) -> None:
        """Capture a bucket's graph while its inputs are zero, so that all rows write to the scratch slot."""
        side = torch.cuda.Stream(self.pool.device)
        side.wait_stream(torch.cuda.current_stream(self.pool.device))
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                self._compute(step)
        torch.cuda.current_stream(self.pool.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        others = next((other.graph for other in self._steps.values() if other.graph is not None), None)
        memory_pool = None if others is None else others.pool()
        # Other threads may use the GPU during the capture.
        with torch.cuda.graph(graph, pool=memory_pool, capture_error_mode="thread_local"):
            step.out = self._compute(step)
        step.graph = graph


def _round_up(count: int, minimum: int) -> int:
    """Return the smallest power of two times `minimum` that is at least `count`."""
    size = minimum
    while size < count:
        size *= 2
    return size
