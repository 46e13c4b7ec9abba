"""Breakdown of a decode step of the engine, from torch's profiler and the shapes of its operations.

It reads no module names and so does not depend on the engine's structure. Linear layers are recognized by their
operation. Operations between the output head and the next embedding are sampling. Operations on the residual stream or
on the inner width of an MLP are norms and activations. The rest moves keys, values and heads, which is attention. The
remaining wall-clock time is Python and dispatch.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from torch._C._profiler import _ExperimentalConfig
from torch.profiler import ProfilerActivity, profile

PARTS = ("linears", "attention", "sampling", "elementwise", "python")
_LINEAR = ("aten::linear", "aten::addmm", "mkldnn::_linear_pointwise", "aten::_weight_int8pack_mm")
_STEP = "aten::embedding"  # the first operation of a step
_MAX_STEPS = 32


class Operation(NamedTuple):
    """A torch operation of the engine's thread; times in microseconds of the profiler's clock."""

    name: str
    shapes: Sequence[Sequence[int]]
    start: float
    end: float


class Widths(NamedTuple):
    """Tensor widths that identify parts of a model."""

    vocabulary: int
    residual: int
    inner: int

    @classmethod
    def of(cls, folder: Path) -> "Widths":
        """Return the widths of the model in `folder`."""
        config = json.loads((folder / "config.json").read_text())
        return cls(config["vocab_size"], config["hidden_size"], config["intermediate_size"])


def shares(operations: Iterable[Operation], widths: Widths) -> dict[str, float]:
    """Return each part's share of the time from the first operation to the last; the shares sum to 1."""
    ordered = sorted(operations, key=lambda operation: operation.start)
    spent = dict.fromkeys(PARTS, 0.0)
    after_head = False
    for operation in ordered:
        sizes = {size for shape in operation.shapes for size in shape}
        part = "elementwise"
        if operation.name == _STEP:
            after_head = False
        elif operation.name in _LINEAR:
            part = "linears"
            after_head = widths.vocabulary in sizes
        elif after_head:
            part = "sampling"
        elif not sizes & {widths.residual, widths.inner}:
            part = "attention"
        spent[part] += operation.end - operation.start
    wall = ordered[-1].end - ordered[0].start
    spent["python"] = wall - sum(spent.values())
    return {part: time / wall for part, time in spent.items()}


class Breakdown:
    """Profile of a job, reduced to decode steps in its middle."""

    def __init__(self) -> None:
        """Start profiling at once: the engine runs ahead of the reader of its tokens."""
        config = _ExperimentalConfig(profile_all_threads=True)
        self._profile = profile(activities=[ProfilerActivity.CPU], record_shapes=True, experimental_config=config)
        self._profile.start()

    def operations(self) -> list[Operation]:
        """End the profile and return the top-level operations of the engine's thread, the one that embeds tokens."""
        self._profile.stop()
        events = sorted(self._profile.events() or [], key=lambda event: event.time_range.start)
        engine = next(event.thread for event in events if event.name == _STEP)
        found = [
            Operation(event.name, event.input_shapes or [], event.time_range.start, event.time_range.end)
            for event in events
            if event.thread == engine and event.cpu_parent is None
        ]
        starts = [place for place, operation in enumerate(found) if operation.name == _STEP]
        first = len(starts) // 3  # skips the prefill and steps with cold caches
        last = min(first + _MAX_STEPS, len(starts) - 1)
        return found[starts[first] : starts[last]]
