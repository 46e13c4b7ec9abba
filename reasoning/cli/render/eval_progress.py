"""The progress of an evaluation on a terminal."""

import sys
from collections import Counter
from contextlib import AbstractContextManager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from branchwise.evaluation.answered import Answered

_RATE_SECONDS = 1800.0  # window from which the rate and the remaining time are estimated


class _QuestionsPerMinute(ProgressColumn):
    """The rate of answered questions."""

    def render(self, task: Task) -> Text:
        return Text("" if not task.speed else f"{60 * task.speed:.1f}/min", style="progress.data.speed")


class EvalProgress:
    """Answered and correct questions of one data set; shows nothing if standard error is not a terminal."""

    def __init__(self, console: Console, data: str, questions: int, done: int = 0) -> None:
        """`questions` counts those of all strategies; an earlier run answered `done` of them."""
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(20),
            MofNCompleteColumn(),
            _QuestionsPerMinute(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            speed_estimate_period=_RATE_SECONDS,
            disable=not sys.stderr.isatty(),
        )
        self._data = data
        self._task = self._bar.add_task(data, total=questions, completed=done)
        self._answered: Counter[str] = Counter()
        self._correct: Counter[str] = Counter()

    def shown(self) -> AbstractContextManager[object]:
        """Return a context that shows the progress while it is open."""
        return self._bar

    def add(self, answered: Answered) -> None:
        """Count one answered question."""
        strategy = answered.strategy
        self._answered[strategy] += 1
        if answered.correct:
            self._correct[strategy] += 1
        description = f"{self._data}, {strategy}: {self._correct[strategy]} of {self._answered[strategy]} correct"
        self._bar.update(self._task, advance=1, description=description)
