"""A tree of reasoning as one self-contained HTML page.

A page has a limited size: it shows the best path and the first nodes, and counts the others.
"""

from collections.abc import Iterator, Set
from typing import NamedTuple

from branchwise.cli.render.tree_text import count_descendants, count_levels, node_figures, short_answer
from branchwise.cli.trace import Trace
from branchwise.core.summary import percent
from branchwise.core.tree import TreeNode
from branchwise.evaluation.report.page import load_template

_SUMMARY_CHARS = 110  # characters of a text that a closed node shows
_OPEN_LEVELS = 2
_PAGE_NODES = 10_000
_PAGE_CHARS = 10_000_000  # of the texts of all nodes
_PAGE_LEVELS = 100  # browsers nest elements a few hundred levels deep
_NODE_CHARS = 100_000  # of one node, more are cut
_LIST_ITEMS = 100  # of votes and of notes


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
    hidden: int
    """Number of nodes below it that the page leaves out, without those below its children on the page."""


def render_tree(trace: Trace) -> str:
    """Return the page. Text of the model is escaped.

    Raises MissingExtraError without the extra `plot`.
    """
    template = load_template("branchwise.cli.render", "tree.html")
    shown = _shown(trace)
    votes = sorted(trace.header.votes.items(), key=lambda vote: -vote[1])
    rows = _Rows(trace, shown)
    return template.render(
        header=trace.header,
        figures=_header_figures(trace),
        votes=votes,
        items=_LIST_ITEMS,
        levels=_PAGE_LEVELS,
        hidden=len(trace.tree.nodes) - len(shown),
        nodes=len(trace.tree.nodes),
        roots=[list(rows.below(root)) for root in trace.tree.roots if root in shown],
        short=short_answer,
    )


def _shown(trace: Trace) -> Set[int]:
    """Return the nodes on the page: the best path, and the first nodes that fit. A node comes after its parent."""
    levels = count_levels(trace)
    shown: set[int] = set()
    chars = 0
    for number in [*sorted(trace.best), *range(len(trace.tree.nodes))]:
        node = trace.tree.nodes[number]
        fits = levels[number] < _PAGE_LEVELS and (node.parent is None or node.parent in shown)
        if number in shown or not fits:
            continue
        chars += min(len(node.text), _NODE_CHARS)
        if len(shown) == _PAGE_NODES or chars > _PAGE_CHARS:
            break
        shown.add(number)
    return shown


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


class _Rows:
    """The rows of the nodes that are shown."""

    def __init__(self, trace: Trace, shown: Set[int]) -> None:
        self._trace = trace
        self._shown = shown
        self._levels = count_levels(trace)
        self._descendants = count_descendants(trace)

    def below(self, root: int) -> Iterator[Row | None]:
        """Yield the rows from a prompt on, depth first. Iterative: a template has a recursion limit."""
        stack: list[int | None] = [root]
        while stack:
            number = stack.pop()
            if number is None:
                yield None
                continue
            row = self._row(number)
            yield row
            if row.branches:
                stack.append(None)
            elif row.truncated:
                yield None
            stack.extend(child for child in reversed(self._trace.tree.children(number)) if child in self._shown)

    def _row(self, number: int) -> Row:
        trace = self._trace
        node = trace.tree.nodes[number]
        line = " ".join(node.text[: 4 * _SUMMARY_CHARS].split())
        best = number in trace.best
        children = trace.tree.children(number)
        branches = len(children) > 1
        level = self._levels[number]
        return Row(
            node=node,
            summary=line[:_SUMMARY_CHARS],
            truncated=len(line) > _SUMMARY_CHARS or len(node.text.strip()) > len(line),
            best=best,
            starts_branch=node.parent is None or len(trace.tree.children(node.parent)) > 1,
            branches=branches,
            open=branches and (best or level < _OPEN_LEVELS),
            figures=node_figures(node),
            hidden=sum(1 + self._descendants[child] for child in children if child not in self._shown),
        )
