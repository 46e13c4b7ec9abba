"""Where a decoding step of the engine goes, told by torch's profiler from the shapes of what is computed.

It looks at no module's name, so it holds whatever the engine is made of: a linear layer is a linear layer;
all that follows the output head until the next embedding is sampling; what works on the residual stream or
the inner width of an MLP is norms and activations; the rest moves keys, values and heads, which is
attention. What the wall clock shows beyond all of these is Python and dispatch.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from torch._C._profiler import _ExperimentalConfig
from torch.profiler import ProfilerActivity, profile

PARTS = ("linears", "attention", "sampling", "elementwise", "python")
_LINEAR = ("aten::linear", "aten::addmm", "mkldnn::_linear_pointwise", "aten::_weight_int8pack_mm")
_STEP = "aten::embedding"  # what a step begins with
_STEPS = 32  # most that are looked at


class Operation(NamedTuple):
    """What the engine's thread asked of torch, in microseconds of the profiler's clock."""

    name: str
    shapes: Sequence[Sequence[int]]
    start: float
    end: float


class Widths(NamedTuple):
    """The widths a model's tensors are told apart by."""

    vocabulary: int
    residual: int
    inner: int

    @classmethod
    def of(cls, folder: Path) -> "Widths":
        """Of the model in a folder."""
        config = json.loads((folder / "config.json").read_text())
        return cls(config["vocab_size"], config["hidden_size"], config["intermediate_size"])


def shares(operations: Iterable[Operation], widths: Widths) -> dict[str, float]:
    """The parts of the time from the first operation to the last, which sum to 1."""
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
    """Profiles a job, and tells of the decoding steps in its middle."""

    def __init__(self) -> None:
        """Starts at once: an engine does not wait for whoever reads its tokens."""
        config = _ExperimentalConfig(profile_all_threads=True)
        self._profile = profile(activities=[ProfilerActivity.CPU], record_shapes=True, experimental_config=config)
        self._profile.start()

    def operations(self) -> list[Operation]:
        """Those of the engine's thread, which looks up tokens; not those they are made of. Ends the profile."""
        self._profile.stop()
        events = sorted(self._profile.events() or [], key=lambda event: event.time_range.start)
        engine = next(event.thread for event in events if event.name == _STEP)
        found = [
            Operation(event.name, event.input_shapes or [], event.time_range.start, event.time_range.end)
            for event in events
            if event.thread == engine and event.cpu_parent is None
        ]
        starts = [place for place, operation in enumerate(found) if operation.name == _STEP]
        first = len(starts) // 3  # the prompt's steps, and those of cold caches, come before
        last = min(first + _STEPS, len(starts) - 1)
        return found[starts[first] : starts[last]]
