"""A tree of reasoning as one self-contained page."""

from collections.abc import Iterator
from typing import NamedTuple

from branchwise.cli.render.lines import percent
from branchwise.cli.render.tree_text import figures, shortened
from branchwise.cli.trace import Trace
from branchwise.core.tree import TreeNode
from branchwise.evaluation.report.page import template

_SHORT = 110  # characters of a text that a node shows while it is closed
_OPEN_LEVELS = 2


class Row(NamedTuple):
    """A node as the page shows it. What the rows hold others is closed by a row of None."""

    node: TreeNode
    short: str
    """The beginning of its text, on one line."""
    long: bool
    """Whether there is more text."""
    best: bool
    begins: bool
    """Whether a branch begins here; otherwise it goes on from the node above it alone."""
    holds: bool
    """Whether branches begin below it."""
    open: bool
    facts: tuple[str, ...]


def render_tree(trace: Trace) -> str:
    """The page. Whatever a model wrote is escaped.

    Raises MissingExtraError without the extra `plot`.
    """
    rows = [list(_rows(trace, root)) for root in trace.tree.roots]
    page = template("branchwise.cli", "tree.html")
    return page.render(head=trace.head, facts=_facts(trace), roots=rows, short=shortened)


def _facts(trace: Trace) -> list[str]:
    """What the head says in small print."""
    head, usage = trace.head, trace.head.usage
    return [
        *([] if head.confidence is None else [f"{percent(head.confidence)} sure"]),
        f"{usage.sampled:,} tokens sampled",
        *([f"{usage.discarded:,} of them discarded"] if usage.discarded else []),
        f"{usage.reused:,} reused",
        f"{usage.prefilled:,} prefilled",
        head.outcome.replace("_", " "),
        f"{len(trace.tree.nodes):,} nodes",
    ]


def _rows(trace: Trace, root: int) -> Iterator[Row | None]:
    """The nodes below a prompt in the order of the page. A template that called itself could not go this deep."""
    open_: list[tuple[int, int, bool] | None] = [(root, 0, True)]
    while open_:
        top = open_.pop()
        if top is None:
            yield None
            continue
        number, level, begins = top
        children = trace.tree.children(number)
        row = _row(trace, number, level, begins)
        yield row
        if row.holds:
            open_.append(None)
        elif row.long:
            yield None
        open_.extend((child, level + row.holds, row.holds) for child in reversed(children))


def _row(trace: Trace, number: int, level: int, begins: bool) -> Row:
    node = trace.tree.nodes[number]
    flat = " ".join(node.text[: 4 * _SHORT].split())
    long = len(flat) > _SHORT or len(node.text.strip()) > len(flat)
    best, holds = number in trace.best, len(trace.tree.children(number)) > 1
    shown = holds and (best or level < _OPEN_LEVELS)
    return Row(node, flat[:_SHORT], long, best, begins, holds, shown, figures(node))
