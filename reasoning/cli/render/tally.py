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

_RATE_OVER = 1800.0  # seconds that the rate and the time left are estimated from


class _Rate(ProgressColumn):
    """Questions a minute."""

    def render(self, task: Task) -> Text:
        return Text("" if not task.speed else f"{60 * task.speed:.1f}/min", style="progress.data.speed")


class Tally:
    """Shows how many questions of one file are done, and how many answers were right; nothing where standard
    error is no terminal."""

    def __init__(self, console: Console, file: str, questions: int, done: int = 0) -> None:
        """`questions`: over all strategies, `done` of them before."""
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(20))
        self._bar = Progress(
            *columns,
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            speed_estimate_period=_RATE_OVER,
            disable=not sys.stderr.isatty(),
        )
        self._file = file
        self._task = self._bar.add_task(file, total=questions, completed=done)
        self._done: Counter[str] = Counter()
        self._right: Counter[str] = Counter()

    def shown(self) -> AbstractContextManager[object]:
        """Show it as long as the context lasts."""
        return self._bar

    def add(self, one: Answered) -> None:
        """A question was answered."""
        self._done[one.strategy] += 1
        self._right[one.strategy] += one.correct
        said = f"{self._file}, {one.strategy}: {self._right[one.strategy]} of {self._done[one.strategy]} right"
        self._bar.update(self._task, advance=1, description=said)
