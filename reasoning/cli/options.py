"""What the commands that run a model have in common: loading it, with progress on a terminal."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from branchwise.backends.base import Backend
from branchwise.backends.models.load import load
from branchwise.backends.models.packages import Progress as OnProgress
from branchwise.errors import MissingExtraError

stderr = Console(stderr=True)

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


def printable(text: str) -> str:
    """A model's text, on one line and without what a terminal would obey."""
    return _CONTROLS.sub(" ", text)


@contextmanager
def fetch_progress(title: str) -> Iterator[OnProgress]:
    """A bar on a terminal, called `title` at first; elsewhere one line for each new stage."""
    if not sys.stderr.isatty():
        said: list[str] = []

        def tell(done: int, total: int, what: str) -> None:
            if what not in said:
                said.append(what)
                print(what, file=sys.stderr)

        yield tell
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=stderr, transient=True) as bar:
        task = bar.add_task(title, total=None)

        def show(done: int, total: int, what: str) -> None:
            if "sha256" in what:
                bar.console.print(what, style="dim")
            bar.update(task, description=what[:70], completed=done, total=total or None)

        yield show


def load_backend(model: str, device: str | None, dtype: str | None) -> Backend:
    """The engine with a model, fetched if need be."""
    try:
        from branchwise.backends.engine.settings import EngineSettings
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", "engine") from error
    settings = EngineSettings(dtype=dtype, device=device)
    with fetch_progress(f"loading {model}") as progress:
        return load(model, settings=settings, progress=progress)
