"""Cost model: the measured seconds of an engine step by its size. The draft budget reads it."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CostModel:
    """Seconds of a step by the number of paths it continues and the rows it computes for each."""

    paths: Sequence[int]
    """Measured numbers of paths, ascending."""
    rows: Sequence[Sequence[float]]
    """[paths, ...] measured rows for each path, ascending from 1."""
    seconds: Sequence[Sequence[float]]
    """[paths, ...] seconds of the step."""
    seconds_per_sample: float = 0.0
    """Seconds to sample one token, not part of the step."""

    def at(self, paths: int, rows: int) -> float:
        """Return the seconds of a step of `rows` rows in all: interpolated, or extrapolated with the last slope."""
        by_paths = [_interpolate(*line, rows / paths) for line in zip(self.rows, self.seconds, strict=True)]
        return _interpolate(self.paths, by_paths, paths)

    def rate(self, tokens: float, paths: int, rows: int) -> float:
        """Return tokens per second of a step that samples `tokens` tokens."""
        return tokens / (self.at(paths, rows) + self.seconds_per_sample * tokens)


def _interpolate(known: Sequence[float], values: Sequence[float], at: float) -> float:
    """Return the value at `at` on the line through its two neighbours in `known`."""
    if len(known) == 1:
        return values[0]
    above = min(max(1, bisect_left(known, at)), len(known) - 1)
    (low, high), (first, second) = known[above - 1 : above + 1], values[above - 1 : above + 1]
    return first + (second - first) * (at - low) / (high - low)
