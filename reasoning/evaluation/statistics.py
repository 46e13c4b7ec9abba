"""Statistics over questions: intervals by the paired bootstrap, and how well a confidence is calibrated."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

LEVEL = 0.95
RESAMPLES = 9_999
BINS = 10


class Estimate(NamedTuple):
    """A figure and its 95% interval."""

    value: float
    low: float
    high: float


class Calibration(NamedTuple):
    """How a confidence in [0, 1] compares with what was right."""

    brier: float
    """Mean squared distance from right (1) or wrong (0); 0 is best, 0.25 is a coin's."""
    ece: float
    """Expected calibration error: mean distance between confidence and the share that is right over ten bins of equal
    width, each weighted by its questions (Guo et al. 2017, arXiv 1706.04599)."""
    questions: int


def mean(values: Sequence[float]) -> Estimate:
    """The mean over questions."""
    return _bootstrap((values,), lambda sample, axis: sample.mean(axis=axis))


def difference(values: Sequence[float], baseline: Sequence[float]) -> Estimate:
    """Mean of `values` minus that of `baseline`, question by question."""
    paired = [value - base for value, base in zip(values, baseline, strict=True)]
    return mean(paired)


def ratio(values: Sequence[float], baseline: Sequence[float]) -> Estimate:
    """Sum of `values` over that of `baseline`, resampled by question."""
    return _bootstrap((values, baseline), lambda a, b, axis: a.sum(axis=axis) / b.sum(axis=axis))


def calibration(confidences: Sequence[float], right: Sequence[bool]) -> Calibration | None:
    """None without questions."""
    import numpy as np

    if not confidences:
        return None
    sure, hit = np.asarray(confidences, dtype=float), np.asarray(right, dtype=float)
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    gaps = [abs(float((hit - sure)[bins == place].sum())) for place in range(BINS)]
    return Calibration(float(((sure - hit) ** 2).mean()), sum(gaps) / len(sure), len(sure))


def _bootstrap(data: tuple[Sequence[float], ...], statistic: Callable[..., object]) -> Estimate:
    """Percentile bootstrap over questions, the same resamples for all of `data`; always the same draw."""
    import numpy as np
    from scipy.stats import bootstrap

    arrays = tuple(np.asarray(values, dtype=float) for values in data)
    value = float(np.asarray(statistic(*arrays, axis=-1)))
    if len(arrays[0]) < 2 or all(float(np.ptp(values)) == 0 for values in arrays):
        return Estimate(value, value, value)  # nothing varies from question to question
    found = bootstrap(
        arrays,
        statistic,
        n_resamples=RESAMPLES,
        confidence_level=LEVEL,
        paired=True,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    low, high = found.confidence_interval
    return Estimate(value, float(low), float(high))
