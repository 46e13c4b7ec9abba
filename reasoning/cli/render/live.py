"""The live display of a run on a terminal."""

import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from branchwise.core.summary import printable
from branchwise.driver import BranchEnded, BranchGrew, BranchStarted, RunEvent, Standing

_SHOWN_BRANCHES = 6
_KEPT_CHARS = 200  # the end of a branch's text that may be shown


class LiveDisplay:
    """Running and finished branches, token rate and leading answer of a run; shown while the context is open."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._running: dict[int, str] = {}
        self._done = 0
        self._tokens = 0
        self._leader = Text("no answer yet", style="dim")
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> "LiveDisplay":
        self._live.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.__exit__(None, None, None)

    def observe(self, event: RunEvent) -> None:
        """Update the display; called from the run's thread."""
        match event:
            case BranchStarted(branch=branch):
                self._running[branch] = ""
            case BranchGrew(branch=branch, tokens=tokens, text=text):
                self._tokens += tokens
                self._running[branch] = (self._running.get(branch, "") + text)[-_KEPT_CHARS:]
            case BranchEnded(branch=branch):
                self._running.pop(branch, None)
                self._done += 1
            case Standing(decision=decision) if decision.answer is not None:
                confidence = "" if decision.confidence is None else f"  confidence {decision.confidence:.1%}"
                self._leader = Text.assemble(
                    ("leading: ", "dim"), (printable(decision.answer.value), "bold green"), (confidence, "dim")
                )

    def _render(self) -> RenderableType:
        seconds = max(time.monotonic() - self._started, 1e-9)
        header = Text.assemble(
            (f"{len(self._running)} running", "bold"),
            f"  {self._done} done  {self._tokens} tokens  {self._tokens / seconds:.0f} tokens/s  ",
            f"{seconds:.0f} s",
        )
        table = Table.grid(padding=(0, 1))
        table.add_column(justify="right", style="dim", no_wrap=True)
        table.add_column(no_wrap=True, overflow="crop", style="dim")
        width = max(20, self._console.width - 6)
        for branch, text in list(self._running.items())[:_SHOWN_BRANCHES]:
            table.add_row(str(branch), Text(" ".join(printable(text).split())[-width:]))
        return Group(header, self._leader, table)
