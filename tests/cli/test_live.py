"""The live display of a run."""

import io

from rich.console import Console

import branchwise as bw
from branchwise.backends import ScriptedBackend
from branchwise.cli.render.live import LiveDisplay


def test_branches_are_counted_without_a_total() -> None:
    """A search with paths=4 samples more branches than 4: a path has one for each step."""
    console = Console(file=io.StringIO(), width=80)
    live = LiveDisplay(console)
    backend = ScriptedBackend(lambda path, before: "One.\nTwo.\nThree.\nThe answer is 42."[len(path.whole_text) :])
    bw.solve_sync("q", backend, strategy=bw.Beam(4, width=2, value="logprob"), observer=live.observe)
    console.print(live._render())
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "0 running  16 done" in shown
    assert "leading: 42" in shown
