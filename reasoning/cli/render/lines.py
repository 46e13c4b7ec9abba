"""Lines of a name and a value, and a summary in that form."""

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from branchwise.core.summary import SummaryLine, printable

_STYLES = {"answer": "bold green", "outcome": "yellow"}


def print_line(console: Console, name: str, value: str, style: str = "") -> None:
    """Print a name and a value on one line; control characters in the value are removed."""
    console.print(Text.assemble((f"{name:<12}", "dim"), (printable(value), style)), soft_wrap=True)


def print_summary(console: Console, lines: Iterable[SummaryLine]) -> None:
    """Print the lines of a summary."""
    for name, value in lines:
        missing = name == "answer" and value == "none"
        print_line(console, name, value, "bold red" if missing else _STYLES.get(name, ""))
