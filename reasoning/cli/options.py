"""What the commands that run a model have in common: loading it, with progress on a terminal."""

import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.progress_bar import ProgressBar
from rich.text import Text

from branchwise.backends.base import Backend
from branchwise.backends.models.load import check_names, load
from branchwise.backends.models.packages import OnProgress
from branchwise.errors import MissingExtraError

stderr = Console(stderr=True)

# The groups of options in the help, and what it says of options that commands share.
MODEL, SAMPLING, THINKING, OUTPUT = "Model", "Sampling", "Thinking models", "Output"
MODEL_HELP = "A name, a hub id, a local folder or a GGUF file."
DEVICE_HELP = "cpu, cuda, ...; a GPU if there is one."
DTYPE_HELP = "float32, bfloat16, ...; the model's own otherwise."
SPECULATION_HELP = "auto drafts tokens where that pays; off. The tokens are the same."
DRAFT_MODEL_HELP = "A smaller model with the same tokenizer that drafts, too."
MAX_TOKENS_HELP = "Most tokens of a path; the task's default otherwise."

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


def printable(text: str) -> str:
    """A model's text, on one line and without what a terminal would obey."""
    return _CONTROLS.sub(" ", text)


class _KnownBar(BarColumn):
    """A bar where it is known how much there is to do."""

    def render(self, task: Task) -> ProgressBar | Text:  # type: ignore[override]  # columns show anything
        return super().render(task) if task.total else Text()


class _KnownSize(DownloadColumn):
    """Bytes where it is known how many there are."""

    def render(self, task: Task) -> Text:
        return super().render(task) if task.total else Text()


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
    columns = (SpinnerColumn(), TextColumn("{task.description}"), _KnownBar(), _KnownSize(), TimeElapsedColumn())
    with Progress(*columns, console=stderr, transient=True) as bar:
        task = bar.add_task(title, total=None)

        def show(done: int, total: int, what: str) -> None:
            if "sha256" in what:
                bar.console.print(what, style="dim")
            bar.update(task, description=what[:70], completed=done, total=total or None)

        yield show


@contextmanager
def interruptible() -> Iterator[None]:
    """Makes sure that Ctrl-C is a KeyboardInterrupt: imports take it for a missing module, clean-ups swallow it."""
    interrupted = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    except BaseException:
        if interrupted:
            raise KeyboardInterrupt from None
        raise
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupted:
        raise KeyboardInterrupt


def load_backend(
    model: str, device: str | None, dtype: str | None, speculation: str, draft_model: str | None
) -> Backend:
    """The engine with a model, fetched if need be."""
    check_names(model, draft_model)  # importing torch takes seconds
    with interruptible(), fetch_progress(f"loading {model}") as progress:
        try:
            from branchwise.backends.engine.settings import EngineSettings
        except ImportError as error:
            raise MissingExtraError(error.name or "torch", "engine") from error
        settings = EngineSettings(dtype=dtype, device=device, speculation=speculation, draft_model=draft_model)
        settings.torch_device()  # a wrong one is no reason to fetch anything
        return load(model, settings=settings, progress=progress)
