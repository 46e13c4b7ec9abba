"""Lines of a name and a value, and the answer with its votes in that form."""

from collections.abc import Mapping

from rich.console import Console
from rich.text import Text

from branchwise.cli.render.terminal import printable

_SHOWN_VOTES = 8


def print_line(console: Console, name: str, value: str, style: str = "") -> None:
    """Print a name and a value on one line; control characters in the value are removed."""
    console.print(Text.assemble((f"{name:<12}", "dim"), (printable(value), style)), soft_wrap=True)


def print_answer(console: Console, answer: str | None, confidence: float | None, votes: Mapping[str, float]) -> None:
    """Print the answer, its confidence if there is one, and the votes."""
    if answer is None:
        print_line(console, "answer", "none", style="bold red")
    else:
        print_line(console, "answer", answer, style="bold green")
    if confidence is not None:
        print_line(console, "confidence", percent(confidence))
    print_line(console, "votes", _vote_counts(votes))


def percent(share: float) -> str:
    """Return a probability as a percentage that is never rounded up to 100%."""
    return "above 99.9%" if share > 0.999 else f"{share:.1%}"


def _vote_counts(votes: Mapping[str, float]) -> str:
    """Return the first answers with their votes, and the number of the others."""
    shown = "  ".join(f"{answer} ×{weight:g}" for answer, weight in list(votes.items())[:_SHOWN_VOTES])
    more = len(votes) - _SHOWN_VOTES
    return (shown or "none") + (f"  and {more} more" if more > 0 else "")
