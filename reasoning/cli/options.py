"""What the commands that run a model have in common: loading it, with progress on a terminal."""

import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.progress_bar import ProgressBar
from rich.text import Text

from branchwise.backends.base import Backend
from branchwise.backends.models.catalog import DEFAULT_MODEL
from branchwise.backends.models.load import check_names, engine_settings, load
from branchwise.backends.models.packages import OnProgress
from branchwise.core.errors import require

stderr = Console(stderr=True)

# The groups of options in the help, and what it says of options that commands share.
MODEL, SAMPLING, THINKING, OUTPUT = "Model", "Sampling", "Thinking models", "Output"
MAX_TOKENS_HELP = "Most tokens of a path; the task's default otherwise."

# What runs a model: the engine or vLLM in this process, or a server.
_ENGINE, _VLLM, _SERVER = "engine", "vllm", "openai"
_BACKENDS = (_ENGINE, _VLLM, _SERVER)

ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="A name, a hub id, a local folder or a GGUF file; of a server, a name there. "
        f"[default: {DEFAULT_MODEL}, or the only one of the server]",
        rich_help_panel=MODEL,
    ),
]
BackendName = Annotated[
    str | None,
    typer.Option(
        "--backend",
        help=f"{', '.join(_BACKENDS)}: what runs the model. [default: {_ENGINE}, or {_SERVER} with --base-url]",
        rich_help_panel=MODEL,
    ),
]
BaseURL = Annotated[
    list[str] | None,
    typer.Option(
        "--base-url",
        help="An OpenAI-compatible server that runs the model, such as http://localhost:8000; repeatable for replicas. "
        "Its key is taken from OPENAI_API_KEY.",
        metavar="<url>",
        rich_help_panel=MODEL,
    ),
]
Device = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda, ...; a GPU if there is one.", rich_help_panel=MODEL)
]
Dtype = Annotated[
    str | None,
    typer.Option("--dtype", help="float32, bfloat16, ...; the model's own otherwise.", rich_help_panel=MODEL),
]
Speculation = Annotated[
    str,
    typer.Option(
        "--speculation",
        help="auto drafts tokens where that pays; off. The tokens are the same.",
        rich_help_panel=MODEL,
    ),
]
DraftModel = Annotated[
    str | None,
    typer.Option(
        "--draft-model", help="A smaller model with the same tokenizer that drafts, too.", rich_help_panel=MODEL
    ),
]

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


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """The model that a command runs, and what runs it."""

    model: str | None
    device: str | None
    dtype: str | None
    speculation: str
    draft_model: str | None
    backend: str | None
    base_url: tuple[str, ...]

    @property
    def name(self) -> str:
        """The model's name; "" where a server is left to say it."""
        return self.model or ("" if self.base_url else DEFAULT_MODEL)

    def check(self) -> None:
        """Find out at once, asking nobody, what makes no sense. Raises ConfigError, ModelError."""
        runs = self._runs()
        require(runs in _BACKENDS, "backend", f"is {runs!r}", f"use {' or '.join(_BACKENDS)}")
        if self.base_url:
            require(runs == _SERVER, "base_url", f"is given, but {runs} runs the model here", "leave one of them out")
            self._needs_engine("dtype", "draft_model")  # the device may be a verifier's
            return
        require(runs != _SERVER, "backend", "is a server, and none is named", "add --base-url http://host:port")
        if runs != _ENGINE:
            self._needs_engine("draft_model")
        check_names(self.name, self.draft_model)  # importing torch takes seconds

    def load(self) -> Backend:
        """The model, fetched if need be, with progress on a terminal; or a connection to its servers.

        Raises ConfigError, ModelError, BackendError, MissingExtraError.
        """
        self.check()
        if self.base_url:
            from branchwise.backends.openai.backend import OpenAIBackend
            from branchwise.backends.openai.settings import OpenAISettings

            return OpenAIBackend.load(OpenAISettings(self.base_url, model=self.model))
        with interruptible(), fetch_progress(f"loading {self.name}") as progress:
            return self._vllm(progress) if self._runs() == _VLLM else self._engine(progress)

    def _runs(self) -> str:
        return self.backend or (_SERVER if self.base_url else _ENGINE)

    def _needs_engine(self, *names: str) -> None:
        for name in names:
            require(getattr(self, name) is None, name, f"is not for {self._runs()} to set", "leave it out")

    def _engine(self, progress: OnProgress) -> Backend:
        settings = engine_settings(
            device=self.device, dtype=self.dtype, speculation=self.speculation, draft_model=self.draft_model
        )
        return load(self.name, settings=settings, progress=progress)

    def _vllm(self, progress: OnProgress) -> Backend:
        from branchwise.backends.vllm.backend import VLLMBackend
        from branchwise.backends.vllm.settings import VLLMSettings

        return VLLMBackend.load(self.name, VLLMSettings(dtype=self.dtype), progress=progress)
