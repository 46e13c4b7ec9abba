"""The progress of an evaluation on a terminal."""

import sys
from collections import Counter
from contextlib import AbstractContextManager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from branchwise.evaluation.run import Graded


class Tally:
    """Shows how many questions of one file are done, and how many answers were right; nothing where standard
    error is no terminal."""

    def __init__(self, console: Console, file: str, questions: int) -> None:
        """`questions`: over all strategies."""
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(20))
        self._bar = Progress(
            *columns,
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._file = file
        self._task = self._bar.add_task(file, total=questions)
        self._done: Counter[str] = Counter()
        self._right: Counter[str] = Counter()

    def shown(self) -> AbstractContextManager[object]:
        """Show it as long as the context lasts."""
        return self._bar

    def add(self, strategy: str, graded: Graded) -> None:
        """A question was graded."""
        self._done[strategy] += 1
        self._right[strategy] += graded.correct
        said = f"{self._file}, {strategy}: {self._right[strategy]} of {self._done[strategy]} right"
        self._bar.update(self._task, advance=1, description=said)
