"""The summary of an evaluation: accuracy, tokens and calibration of every strategy, compared with a baseline."""

from collections.abc import Mapping, Sequence
from itertools import accumulate

from pydantic import BaseModel, ConfigDict

from branchwise.core.usage import Usage
from branchwise.evaluation.answered import Answered, CurvePoint
from branchwise.evaluation.statistics import Calibration, Estimate, calibration, difference, mean, quantile, ratio

SHARES = (0.75, 0.9, 0.99)
"""Shares of the gain from a single path's accuracy to the baseline's, for `StrategySummary.tokens_to`."""


class StrategySummary(BaseModel):
    """One strategy on one data set. Intervals are 95%, by the paired bootstrap over questions."""

    model_config = ConfigDict(frozen=True)

    strategy: str
    questions: int
    right: int
    """Number of correct answers."""
    accuracy: Estimate
    to_baseline: Estimate | None
    """Accuracy minus the baseline's, over the questions that both answered."""
    sampled: int
    """Sampled tokens, including those of cancelled branches and of judges."""
    sampled_to_baseline: Estimate | None
    """Sampled tokens divided by the baseline's, over the questions that both answered."""
    paths: int
    failed: int
    """Questions without a result because of an error; they count as wrong."""
    unanswered: int
    """Questions without an answer, including the failed ones; they count as wrong."""
    calibration: Mapping[str, Calibration]
    """Calibration of the confidence of the answer (`reported`) and of each tally."""
    metrics: Mapping[str, Estimate]
    """Text metrics, from 0 to 1."""
    usage: Usage
    tokens_to: Mapping[str, float | None]
    """Mean sampled tokens per question after which accuracy has risen from that of a single path by 75%, 90% and 99% of
    the baseline's gain over a single path. None if it never does, or if the baseline gains nothing."""
    seconds_p50: float | None
    """Median wall-clock time per question, with others answered concurrently; None if all have replayed branches."""
    seconds_p95: float | None


class DataSummary(BaseModel):
    """All strategies on one data set."""

    model_config = ConfigDict(frozen=True)

    data: str
    questions: int
    baseline: str
    """The first strategy."""
    single_path: float | None
    """Mean accuracy of the baseline's single paths; None if it has no paths."""
    strategies: tuple[StrategySummary, ...]

    @property
    def metrics(self) -> Sequence[str]:
        """Names of the text metrics of all strategies."""
        return list(dict.fromkeys(name for one in self.strategies for name in one.metrics))


class Summary(BaseModel):
    """All data sets of an evaluation: the content of summary.json."""

    model_config = ConfigDict(frozen=True)

    data: tuple[DataSummary, ...]


def format_summary(summaries: Sequence[DataSummary]) -> str:
    """Return the content of summary.json."""
    return Summary(data=tuple(summaries)).model_dump_json(indent=1)


def group_by_data(answered: Sequence[Answered]) -> Mapping[str, list[Answered]]:
    """Return the answers by data set."""
    groups: dict[str, list[Answered]] = {}
    for one in answered:
        groups.setdefault(one.data, []).append(one)
    return groups


def strategy_names(answered: Sequence[Answered]) -> list[str]:
    """Return the strategies in the order in which they were run."""
    return list(dict.fromkeys(one.strategy for one in answered))


def summarize(data: str, answered: Sequence[Answered], strategies: Sequence[str]) -> DataSummary:
    """Return the summary of one data set; the first strategy is the baseline."""
    by_strategy = {name: [one for one in answered if one.strategy == name] for name in strategies}
    baseline = by_strategy[strategies[0]]
    return DataSummary(
        data=data,
        questions=len({one.id for one in answered}),
        baseline=strategies[0],
        single_path=_single_path_accuracy(baseline),
        strategies=tuple(_summarize(name, rows, baseline) for name, rows in by_strategy.items() if rows),
    )


def _summarize(name: str, rows: Sequence[Answered], baseline: Sequence[Answered]) -> StrategySummary:
    baseline_by_id = {one.id: one for one in baseline} if rows is not baseline else {}
    pairs = [(one, baseline_by_id[one.id]) for one in rows if one.id in baseline_by_id]
    ours, theirs = [one for one, _ in pairs], [other for _, other in pairs]
    tokens_comparable = sum(other.usage.sampled for other in theirs) > 0
    tokens_rows, tokens_baseline = (rows, baseline) if rows is baseline else (ours, theirs)
    seconds = [one.usage.seconds for one in rows if not one.replayed] or None
    return StrategySummary(
        strategy=name,
        questions=len(rows),
        right=sum(one.correct for one in rows),
        accuracy=mean(_correct(rows)),
        to_baseline=difference(_correct(ours), _correct(theirs)) if pairs else None,
        sampled=sum(one.usage.sampled for one in rows),
        sampled_to_baseline=ratio(_tokens(ours), _tokens(theirs)) if tokens_comparable else None,
        paths=sum(len(one.paths) for one in rows),
        failed=sum(one.failed for one in rows),
        unanswered=sum(one.answer is None for one in rows),
        calibration=_calibrations(rows),
        metrics={metric: mean([one.metrics.get(metric, 0.0) for one in rows]) for metric in _metrics(rows)},
        usage=sum((one.usage for one in rows), Usage()),
        tokens_to={f"{share:.0%}": _tokens_to(tokens_rows, tokens_baseline, share) for share in SHARES},
        seconds_p50=None if seconds is None else quantile(seconds, 0.5),
        seconds_p95=None if seconds is None else quantile(seconds, 0.95),
    )


def _correct(answered: Sequence[Answered]) -> list[float]:
    return [1.0 if one.correct else 0.0 for one in answered]


def _tokens(answered: Sequence[Answered]) -> list[float]:
    return [float(one.usage.sampled) for one in answered]


def _metrics(answered: Sequence[Answered]) -> list[str]:
    return sorted({name for one in answered for name in one.metrics})


def _calibrations(answered: Sequence[Answered]) -> dict[str, Calibration]:
    """Return the calibration of the reported confidence and of each tally, whose answer is that with the most votes."""
    predictions: dict[str, list[tuple[float, bool]]] = {}
    for one in answered:
        if one.confidence is not None:
            predictions.setdefault("reported", []).append((one.confidence, one.correct))
        right = {path.vote: right for path, right in zip(one.paths, one.right, strict=True)}
        for name, tally in one.tallies.items():
            if tally.confidence is not None and tally.votes:
                leader = max(tally.votes, key=tally.votes.__getitem__)
                predictions.setdefault(name, []).append((tally.confidence, right.get(leader, False)))
    calibrations = {
        name: calibration([confidence for confidence, _ in pairs], [correct for _, correct in pairs])
        for name, pairs in predictions.items()
    }
    return {name: value for name, value in calibrations.items() if value is not None}


def _single_path_accuracy(baseline: Sequence[Answered]) -> float | None:
    """Return the mean over questions of the share of correct paths; None if no question has a path.

    A question without paths counts as 0.
    """
    if not any(one.right for one in baseline):
        return None
    return sum(sum(one.right) / len(one.right) for one in baseline if one.right) / len(baseline)


def accuracy_curve(answered: Sequence[Answered]) -> list[tuple[float, float]]:
    """Return (mean sampled tokens, accuracy) after 1, 2, 3, ... branches of each question.

    A question that ended earlier keeps its last point; one without branches has its final result as the only point.
    """
    if not any(one.curve for one in answered):
        return []
    curves = [one.curve or (CurvePoint(one.usage.sampled, one.correct),) for one in answered]
    length = max(map(len, curves))
    sampled, correct = [0] * length, [0] * length  # what each branch adds to the sums over questions
    for curve in curves:
        for place, (before, point) in enumerate(zip((CurvePoint(0, False), *curve), curve, strict=False)):
            sampled[place] += point.sampled - before.sampled
            correct[place] += point.correct - before.correct
    count = len(curves)
    return [(x / count, y / count) for x, y in zip(accumulate(sampled), accumulate(correct), strict=True)]


def _tokens_to(answered: Sequence[Answered], baseline: Sequence[Answered], share: float) -> float | None:
    single = _single_path_accuracy(baseline)
    final = sum(one.correct for one in baseline) / len(baseline) if baseline else 0.0
    if single is None or final <= single:
        return None
    target = single + share * (final - single)
    return next((tokens for tokens, accuracy in accuracy_curve(answered) if accuracy >= target - 1e-9), None)
