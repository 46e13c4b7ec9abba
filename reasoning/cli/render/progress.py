"""Progress of fetching, converting and loading a model."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.progress_bar import ProgressBar
from rich.text import Text

from branchwise.backends.models.progress import OnProgress
from branchwise.cli.render.terminal import stderr

_TITLE_WIDTH = 70


class _BarOfKnownTotal(BarColumn):
    """A bar that is empty while the total is unknown."""

    def render(self, task: Task) -> ProgressBar | Text:  # type: ignore[override]  # columns may return any renderable
        return super().render(task) if task.total else Text()


class _BytesOfKnownTotal(DownloadColumn):
    """A count of bytes that is empty while the total is unknown."""

    def render(self, task: Task) -> Text:
        return super().render(task) if task.total else Text()


@contextmanager
def fetch_progress(title: str) -> Iterator[OnProgress]:
    """Yield a progress callback: a bar on a terminal, titled `title` at first; otherwise one line per stage."""
    if not sys.stderr.isatty():
        yield _print_stages()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        _BarOfKnownTotal(),
        _BytesOfKnownTotal(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=stderr, transient=True) as bar:
        task = bar.add_task(title, total=None)

        def update_bar(done: int, total: int, stage: str) -> None:
            if "sha256" in stage:
                bar.console.print(stage, style="dim")
            bar.update(task, description=stage[:_TITLE_WIDTH], completed=done, total=total or None)

        yield update_bar


def _print_stages() -> OnProgress:
    printed: set[str] = set()

    def print_stage(done: int, total: int, stage: str) -> None:
        if stage not in printed:
            printed.add(stage)
            print(stage, file=sys.stderr)

    return print_stage
