"""A tree of reasoning as one self-contained HTML page."""

from collections.abc import Iterator
from typing import NamedTuple

from branchwise.cli.render.tree_text import node_figures, short_answer
from branchwise.cli.trace import Trace
from branchwise.core.summary import percent
from branchwise.core.tree import TreeNode
from branchwise.evaluation.report.page import load_template

_SUMMARY_CHARS = 110  # characters of a text that a closed node shows
_OPEN_LEVELS = 2


class Row(NamedTuple):
    """A node on the page. A row of None closes the innermost open `details` element."""

    node: TreeNode
    summary: str
    """The beginning of its text, on one line."""
    truncated: bool
    """True if there is more text than the summary."""
    best: bool
    """True on the best path."""
    starts_branch: bool
    """False for an only child, which continues its parent at the same level."""
    branches: bool
    """True if the node has several children."""
    open: bool
    figures: tuple[str, ...]


def render_tree(trace: Trace) -> str:
    """Return the page. Text of the model is escaped.

    Raises MissingExtraError without the extra `plot`.
    """
    template = load_template("branchwise.cli.render", "tree.html")
    return template.render(
        header=trace.header,
        figures=_header_figures(trace),
        roots=[list(_rows(trace, root)) for root in trace.tree.roots],
        short=short_answer,
    )


def _header_figures(trace: Trace) -> list[str]:
    """Return the figures of the whole run for the page's header."""
    header, usage = trace.header, trace.header.usage
    return [
        *([] if header.confidence is None else [f"confidence {percent(header.confidence)}"]),
        f"{usage.sampled:,} tokens sampled",
        *([f"{usage.discarded:,} of them discarded"] if usage.discarded else []),
        f"{usage.reused:,} prompt tokens reused",
        f"{usage.prefilled:,} prefilled",
        f"outcome: {header.outcome.replace('_', ' ')}",
        f"{len(trace.tree.nodes):,} nodes",
    ]


def _rows(trace: Trace, root: int) -> Iterator[Row | None]:
    """Yield the rows below a prompt, depth first. Iterative: a recursive template would exceed the recursion limit."""
    stack: list[tuple[int, int, bool] | None] = [(root, 0, True)]
    while stack:
        top = stack.pop()
        if top is None:
            yield None
            continue
        number, level, starts_branch = top
        row = _row(trace, number, level, starts_branch)
        yield row
        if row.branches:
            stack.append(None)
        elif row.truncated:
            yield None
        child_level = level + 1 if row.branches else level
        stack.extend((child, child_level, row.branches) for child in reversed(trace.tree.children(number)))


def _row(trace: Trace, number: int, level: int, starts_branch: bool) -> Row:
    node = trace.tree.nodes[number]
    line = " ".join(node.text[: 4 * _SUMMARY_CHARS].split())
    best = number in trace.best
    branches = len(trace.tree.children(number)) > 1
    return Row(
        node=node,
        summary=line[:_SUMMARY_CHARS],
        truncated=len(line) > _SUMMARY_CHARS or len(node.text.strip()) > len(line),
        best=best,
        starts_branch=starts_branch,
        branches=branches,
        open=branches and (best or level < _OPEN_LEVELS),
        figures=node_figures(node),
    )
