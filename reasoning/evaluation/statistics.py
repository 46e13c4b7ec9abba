"""Statistics over questions: intervals by paired bootstrap, and the calibration of confidences."""

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LEVEL = 0.95
"""Confidence level of every interval."""
RESAMPLES = 9_999
BINS = 10
"""Bins of the expected calibration error."""
_RESAMPLES_PER_BATCH = 1_000
_VALUES_PER_BATCH = 10_000_000  # limits memory: with more questions a batch has fewer resamples


class Estimate(NamedTuple):
    """A value and its 95% interval."""

    value: float
    low: float
    high: float


class Calibration(NamedTuple):
    """Errors of confidences in [0, 1] as predictions of correctness."""

    brier: float
    """Brier score: mean squared difference to correct (1) or wrong (0). 0 is best; always 0.5 scores 0.25."""
    ece: float
    """Expected calibration error: mean difference between confidence and accuracy over ten bins of equal width,
    weighted by the questions in each (Guo et al. 2017, arXiv 1706.04599)."""
    questions: int


def mean(values: Sequence[float]) -> Estimate:
    """Return the mean over questions of values in [0, 1]."""
    estimate = _bootstrap((values,), lambda sample, axis: sample.mean(axis=axis))
    margin = _unseen_share(values)
    return Estimate(estimate.value, max(0.0, estimate.low - margin), min(1.0, estimate.high + margin))


def difference(values: Sequence[float], baseline: Sequence[float]) -> Estimate:
    """Return the mean of `values` minus that of `baseline`, paired by question; both in [0, 1]."""
    paired = [value - base for value, base in zip(values, baseline, strict=True)]
    estimate = _bootstrap((paired,), lambda sample, axis: sample.mean(axis=axis))
    margin = _unseen_share(paired)
    return Estimate(estimate.value, max(-1.0, estimate.low - margin), min(1.0, estimate.high + margin))


def ratio(values: Sequence[float], baseline: Sequence[float]) -> Estimate:
    """Return the sum of `values` over that of `baseline`, which must not be 0, resampled by question.

    Resamples whose baseline sums to 0 are left out.
    """
    import numpy as np

    def ratio_of_sums(values: "Floats", baseline: "Floats", axis: int) -> "Floats":
        numerator, denominator = values.sum(axis=axis), baseline.sum(axis=axis)
        undefined = np.full(np.shape(denominator), np.nan)
        ratios: Floats = np.divide(numerator, denominator, out=undefined, where=denominator != 0)
        return ratios

    return _bootstrap((values, baseline), ratio_of_sums)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value at a quantile, interpolated between the two nearest values."""
    import numpy as np

    return float(np.quantile(np.asarray(values, dtype=float), share))


def calibration(confidences: Sequence[float], correct: Sequence[bool]) -> Calibration | None:
    """Return the calibration over questions; None without questions."""
    import numpy as np

    if not confidences:
        return None
    predicted, actual = np.asarray(confidences, dtype=float), np.asarray(correct, dtype=float)
    bins = np.minimum((predicted * BINS).astype(int), BINS - 1)
    gaps = [abs(float((actual - predicted)[bins == index].sum())) for index in range(BINS)]
    return Calibration(float(((predicted - actual) ** 2).mean()), sum(gaps) / len(predicted), len(predicted))


def _unseen_share(values: Sequence[float]) -> float:
    """Return the largest share of other values that is plausible although all values are equal; 0 if they are not.

    The exact binomial bound (Clopper & Pearson 1934). A bootstrap of equal values gives an interval of width 0.
    """
    if not values or any(value != values[0] for value in values):
        return 0.0
    return 1.0 - float(((1 - LEVEL) / 2) ** (1 / len(values)))


def _bootstrap(data: tuple[Sequence[float], ...], statistic: Callable[..., object]) -> Estimate:
    """Return the percentile bootstrap over questions, with the same resamples for all of `data` and a fixed seed."""
    import numpy as np
    from scipy.stats import DegenerateDataWarning, bootstrap

    arrays = tuple(np.asarray(values, dtype=float) for values in data)
    value = float(np.asarray(statistic(*arrays, axis=-1)))
    if len(arrays[0]) < 2 or all(float(np.ptp(values)) == 0 for values in arrays):
        return Estimate(value, value, value)  # the same for every resample
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # raised if a resample has no value
        result = bootstrap(
            arrays,
            statistic,
            n_resamples=RESAMPLES,
            confidence_level=LEVEL,
            paired=True,
            vectorized=True,
            batch=max(1, min(_VALUES_PER_BATCH // len(arrays[0]), _RESAMPLES_PER_BATCH)),
            method="percentile",
            rng=np.random.default_rng(0),
        )
    resampled = result.bootstrap_distribution
    low, high = np.quantile(resampled[np.isfinite(resampled)], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high))
