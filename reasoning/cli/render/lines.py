"""What a person reads line by line: a name and a value."""

from collections.abc import Mapping

from rich.console import Console
from rich.text import Text

from branchwise.cli.options import printable

_SHOWN_VOTES = 8


def print_line(console: Console, name: str, value: str, style: str = "") -> None:
    """One line, whatever a model wrote into the value."""
    console.print(Text.assemble((f"{name:<12}", "dim"), (printable(value), style)), soft_wrap=True)


def print_answer(console: Console, answer: str | None, confidence: float | None, votes: Mapping[str, float]) -> None:
    """What a run came to: three lines, or two where no confidence was told."""
    if answer is None:
        print_line(console, "answer", "none", style="bold red")
    else:
        print_line(console, "answer", answer, style="bold green")
    if confidence is not None:
        print_line(console, "confidence", percent(confidence))
    print_line(console, "votes", _counted(votes))


def percent(share: float) -> str:
    """A probability that never rounds up to certainty."""
    return "above 99.9%" if share > 0.999 else f"{share:.1%}"


def _counted(votes: Mapping[str, float]) -> str:
    """The answers with most votes."""
    shown = "  ".join(f"{answer} ×{weight:g}" for answer, weight in list(votes.items())[:_SHOWN_VOTES])
    more = len(votes) - _SHOWN_VOTES
    return (shown or "none") + (f"  and {more} more" if more > 0 else "")
