"""Statistics over questions: intervals by the paired bootstrap, and how well a confidence is calibrated."""

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 9_999
_AT_A_TIME = 1_000  # resamples: what is held of them grows with the questions
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
    """The mean over questions, of values in [0, 1]."""
    found = _bootstrap((values,), lambda sample, axis: sample.mean(axis=axis))
    slack = _unseen(values)
    return Estimate(found.value, max(0.0, found.low - slack), min(1.0, found.high + slack))


def difference(values: Sequence[float], baseline: Sequence[float]) -> Estimate:
    """Mean of `values` minus that of `baseline`, question by question; both in [0, 1]."""
    paired = [value - base for value, base in zip(values, baseline, strict=True)]
    found = _bootstrap((paired,), lambda sample, axis: sample.mean(axis=axis))
    slack = _unseen(paired)
    return Estimate(found.value, max(-1.0, found.low - slack), min(1.0, found.high + slack))


def _unseen(values: Sequence[float]) -> float:
    """How often something else than what all questions show may happen: the exact binomial bound (Clopper & Pearson
    1934). A bootstrap of equal values would claim to be certain; 0 where they are not equal."""
    if not values or any(value != values[0] for value in values):
        return 0.0
    return 1.0 - float(((1 - LEVEL) / 2) ** (1 / len(values)))


def ratio(values: Sequence[float], baseline: Sequence[float]) -> Estimate:
    """Sum of `values` over that of `baseline`, which isn't 0, resampled by question; resamples where it is are left
    out."""
    import numpy as np

    def over(values: "Numbers", baseline: "Numbers", axis: int) -> "Numbers":
        above, below = values.sum(axis=axis), baseline.sum(axis=axis)
        found: Numbers = np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below != 0)
        return found

    return _bootstrap((values, baseline), over)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that so large a share of them doesn't exceed, between two of them where it falls there."""
    import numpy as np

    return float(np.quantile(np.asarray(values, dtype=float), share))


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
    from scipy.stats import DegenerateDataWarning, bootstrap

    arrays = tuple(np.asarray(values, dtype=float) for values in data)
    value = float(np.asarray(statistic(*arrays, axis=-1)))
    if len(arrays[0]) < 2 or all(float(np.ptp(values)) == 0 for values in arrays):
        return Estimate(value, value, value)  # nothing varies from question to question
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # of an interval that some resample has no value for
        found = bootstrap(
            arrays,
            statistic,
            n_resamples=RESAMPLES,
            confidence_level=LEVEL,
            paired=True,
            vectorized=True,
            batch=_AT_A_TIME,
            method="percentile",
            rng=np.random.default_rng(0),
        )
    drawn = found.bootstrap_distribution
    low, high = np.quantile(drawn[np.isfinite(drawn)], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high))
