"""The live display of a run on a terminal."""

import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from branchwise.cli.options import printable
from branchwise.driver import BranchEnded, BranchGrew, BranchStarted, RunEvent, Standing

_SHOWN = 6  # running branches whose last words are shown


class LiveRun:
    """Shows branches running and done, tokens, and the leading answer; use it as a context manager."""

    def __init__(self, console: Console, paths: int) -> None:
        self._console = console
        self._paths = paths
        self._began = time.monotonic()
        self._running: dict[int, str] = {}
        self._done = 0
        self._tokens = 0
        self._leader = Text("no answer yet", style="dim")
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> "LiveRun":
        self._live.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.__exit__(None, None, None)

    def observe(self, event: RunEvent) -> None:
        """Take in an event; called from the run's thread."""
        match event:
            case BranchStarted(branch=branch):
                self._running[branch] = ""
            case BranchGrew(branch=branch, tokens=tokens, text=text):
                self._tokens += tokens
                self._running[branch] = (self._running.get(branch, "") + text)[-200:]
            case BranchEnded(branch=branch):
                self._running.pop(branch, None)
                self._done += 1
            case Standing(decision=decision) if decision.answer is not None:
                sure = "" if decision.confidence is None else f"  confidence {decision.confidence:.1%}"
                self._leader = Text.assemble(
                    ("leading: ", "dim"), (printable(decision.answer.value), "bold green"), (sure, "dim")
                )

    def _render(self) -> RenderableType:
        seconds = max(time.monotonic() - self._began, 1e-9)
        head = Text.assemble(
            (f"{len(self._running)} running", "bold"),
            f"  {self._done}/{self._paths} done  {self._tokens} tokens  {self._tokens / seconds:.0f} tokens/s  ",
            f"{seconds:.0f} s",
        )
        table = Table.grid(padding=(0, 1))
        table.add_column(justify="right", style="dim", no_wrap=True)
        table.add_column(no_wrap=True, overflow="crop", style="dim")
        width = max(20, self._console.width - 6)
        for branch, text in list(self._running.items())[:_SHOWN]:
            table.add_row(str(branch), Text(" ".join(printable(text).split())[-width:]))
        return Group(head, self._leader, table)
