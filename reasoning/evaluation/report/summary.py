"""What an evaluation shows: one strategy beside another, with how sure each figure is."""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from branchwise.core.usage import Usage
from branchwise.evaluation.answered import Answered, Point
from branchwise.evaluation.statistics import Calibration, Estimate, calibration, difference, mean, quantile, ratio

SHARES = (0.75, 0.9, 0.99)
"""Of the way from one path to the baseline's plateau."""


class StrategySummary(BaseModel):
    """One strategy over the questions of one file. Intervals are 95%, by the paired bootstrap over questions."""

    model_config = ConfigDict(frozen=True)

    strategy: str
    questions: int
    right: int
    accuracy: Estimate
    to_baseline: Estimate | None
    """Its accuracy minus the baseline's, over the questions both answered."""
    sampled: int
    """Tokens, those of cancelled branches and of judges included."""
    sampled_to_baseline: Estimate | None
    """Its sampled tokens over the baseline's, likewise."""
    paths: int
    failed: int
    """Questions of which nothing came; they count as wrong."""
    unanswered: int
    """Questions without an answer, the failed ones included; they count as wrong."""
    calibration: Mapping[str, Calibration]
    """Of the reported confidence (`reported`) and of those of other ways of counting."""
    metrics: Mapping[str, Estimate]
    """Of answers that are texts."""
    usage: Usage
    tokens_to: Mapping[str, float | None]
    """Mean tokens of a question at which accuracy reaches a share of the way from a single path's to the baseline's
    last; None where it never does, and where the baseline is no better than a single path."""
    seconds_p50: float | None
    """Of a question's wall-clock time, others answered beside it; without those whose paths came from a record."""
    seconds_p95: float | None


class DataSummary(BaseModel):
    """All strategies over one file."""

    model_config = ConfigDict(frozen=True)

    data: str
    questions: int
    baseline: str
    """The first strategy."""
    single_path: float | None
    """Accuracy of the baseline's single paths; None where it drew none."""
    strategies: tuple[StrategySummary, ...]

    @property
    def metrics(self) -> Sequence[str]:
        """Those that any of them has."""
        return list(dict.fromkeys(name for one in self.strategies for name in one.metrics))


class Summary(BaseModel):
    """Everything an evaluation shows: the content of summary.json."""

    model_config = ConfigDict(frozen=True)

    data: tuple[DataSummary, ...]


def write_summary(summaries: Sequence[DataSummary]) -> str:
    """As JSON."""
    return Summary(data=tuple(summaries)).model_dump_json(indent=1)


def by_data(answered: Sequence[Answered]) -> Mapping[str, list[Answered]]:
    """What was answered of each file."""
    found: dict[str, list[Answered]] = {}
    for one in answered:
        found.setdefault(one.data, []).append(one)
    return found


def names(answered: Sequence[Answered]) -> list[str]:
    """The strategies that answered, in the order in which they were run."""
    return list(dict.fromkeys(one.strategy for one in answered))


def summarize(data: str, answered: Sequence[Answered], strategies: Sequence[str]) -> DataSummary:
    """The figures of one file; the first strategy is the baseline."""
    of = {name: [one for one in answered if one.strategy == name] for name in strategies}
    base = of[strategies[0]]
    return DataSummary(
        data=data,
        questions=len({one.id for one in answered}),
        baseline=strategies[0],
        single_path=_single_path(base),
        strategies=tuple(_summary(name, of[name], base) for name in strategies if of[name]),
    )


def _summary(name: str, own: Sequence[Answered], base: Sequence[Answered]) -> StrategySummary:
    others = {other.id: other for other in base} if own is not base else {}
    paired = [(one, others[one.id]) for one in own if one.id in others]
    ours, theirs = [one for one, _ in paired], [other for _, other in paired]
    compared = (own, base) if own is base else (ours, theirs)
    comparable = bool(paired) and sum(other.usage.sampled for other in theirs) > 0
    seconds = [one.usage.seconds for one in own if not one.replayed] or None
    return StrategySummary(
        strategy=name,
        questions=len(own),
        right=sum(one.correct for one in own),
        accuracy=mean([float(one.correct) for one in own]),
        to_baseline=difference(_hits(ours), _hits(theirs)) if paired else None,
        sampled=sum(one.usage.sampled for one in own),
        sampled_to_baseline=ratio(_tokens(ours), _tokens(theirs)) if comparable else None,
        paths=sum(len(one.paths) for one in own),
        failed=sum(one.failed for one in own),
        unanswered=sum(one.answer is None for one in own),
        calibration=_calibrations(own),
        metrics={metric: mean([one.metrics.get(metric, 0.0) for one in own]) for metric in _metrics(own)},
        usage=sum((one.usage for one in own), Usage()),
        tokens_to={f"{share:.0%}": _tokens_to(*compared, share) for share in SHARES},
        seconds_p50=None if seconds is None else quantile(seconds, 0.5),
        seconds_p95=None if seconds is None else quantile(seconds, 0.95),
    )


def _hits(answered: Sequence[Answered]) -> list[float]:
    return [float(one.correct) for one in answered]


def _tokens(answered: Sequence[Answered]) -> list[float]:
    return [float(one.usage.sampled) for one in answered]


def _metrics(answered: Sequence[Answered]) -> list[str]:
    return sorted({name for one in answered for name in one.metrics})


def _calibrations(answered: Sequence[Answered]) -> dict[str, Calibration]:
    """Of every confidence there is; a tally's is of the answer it puts first."""
    found: dict[str, list[tuple[float, bool]]] = {}
    for one in answered:
        if one.confidence is not None:
            found.setdefault("reported", []).append((one.confidence, one.correct))
        right = {path.vote: hit for path, hit in zip(one.paths, one.right, strict=True)}
        for name, tally in one.tallies.items():
            if tally.confidence is not None and tally.votes:
                top = max(tally.votes, key=tally.votes.__getitem__)
                found.setdefault(name, []).append((tally.confidence, right.get(top, False)))
    measured = {name: calibration([sure for sure, _ in rows], [hit for _, hit in rows]) for name, rows in found.items()}
    return {name: value for name, value in measured.items() if value is not None}


def _single_path(base: Sequence[Answered]) -> float | None:
    """How often one path is right: the mean over questions of the share of their paths, 0 of those without any; None
    where no question has one."""
    if not any(one.right for one in base):
        return None
    return sum(sum(one.right) / len(one.right) for one in base if one.right) / len(base)


def points(answered: Sequence[Answered]) -> list[tuple[float, float]]:
    """(mean sampled tokens, accuracy) after 1, 2, 3, ... branches of each question; one that ended earlier stays, and
    one without a branch stands where it ended."""
    if not any(one.curve for one in answered):
        return []
    curves = [one.curve or (Point(one.usage.sampled, one.correct),) for one in answered]
    longest = max(map(len, curves))
    found = []
    for length in range(1, longest + 1):
        reached = [curve[min(length, len(curve)) - 1] for curve in curves]
        found.append((sum(p.sampled for p in reached) / len(reached), sum(p.correct for p in reached) / len(reached)))
    return found


def _tokens_to(own: Sequence[Answered], base: Sequence[Answered], share: float) -> float | None:
    single = _single_path(base)
    plateau = sum(one.correct for one in base) / len(base) if base else 0.0
    if single is None or plateau <= single:
        return None
    wanted = single + share * (plateau - single)
    return next((tokens for tokens, accuracy in points(own) if accuracy >= wanted - 1e-9), None)
