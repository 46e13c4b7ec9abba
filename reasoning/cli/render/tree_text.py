"""A tree of reasoning on a terminal."""

from collections.abc import Iterator

from rich.console import Console, Group
from rich.padding import Padding
from rich.text import Text
from rich.tree import Tree as RichTree

from branchwise.cli.trace import Trace
from branchwise.core.summary import printable
from branchwise.core.tree import NodeState, TreeNode

_INDENT = 4  # columns per level
_TEXT_WIDTH = 40  # columns that a line needs to the right of the indent
_SCANNED_CHARS = 2000  # the beginning of a text that may be shown on one line
_ANSWER_WIDTH = 80
_BEST_MARK = "★ "


def print_tree(console: Console, trace: Trace, depth: int | None, full: bool) -> None:
    """Print the tree with the nodes of the best path marked.

    A node that is an only child is printed below its parent at the same level, so that the tree is indented only where
    it branches. `depth` is the number of levels to print; None prints as many as fit the console. Nodes on deeper
    levels are counted.
    """
    if depth is None:
        levels = max(1, (console.width - _TEXT_WIDTH) // _INDENT)
    else:
        levels = depth
        width = _INDENT * min(depth, max(count_levels(trace))) + _TEXT_WIDTH
        console = Console(file=console.file, width=max(console.width, width))
    for tree in _rich_trees(trace, levels, full):
        console.print(tree, highlight=False)


def _rich_trees(trace: Trace, levels: int, full: bool) -> Iterator[RichTree]:
    """Yield a tree per prompt. Iterative, because a tree can be deeper than Python's recursion limit."""
    descendants = count_descendants(trace)
    for root in trace.tree.roots:
        chain = trace.chain(root)
        top = RichTree(_label(trace, chain, full), guide_style="dim")
        stack = [(top, chain[-1], 1)]
        while stack:
            parent, number, level = stack.pop()
            if level > levels and descendants[number]:
                parent.add(Text(f"… {descendants[number]} more nodes", style="dim"))
                continue
            for child in trace.tree.children(number):
                chain = trace.chain(child)
                stack.append((parent.add(_label(trace, chain, full)), chain[-1], level + 1))
        yield top


def count_descendants(trace: Trace) -> list[int]:
    """Return the number of descendants of every node, shape [nodes]."""
    descendants = [0 for _ in trace.tree.nodes]
    for node in reversed(trace.tree.nodes):
        if node.parent is not None:
            descendants[node.parent] += descendants[node.number] + 1
    return descendants


def count_levels(trace: Trace) -> list[int]:
    """Return the number of branching nodes above every node, shape [nodes]."""
    levels = [0 for _ in trace.tree.nodes]
    for node in trace.tree.nodes:
        if node.parent is not None:
            branches = len(trace.tree.children(node.parent)) > 1
            levels[node.number] = levels[node.parent] + (1 if branches else 0)
    return levels


def _label(trace: Trace, chain: tuple[int, ...], full: bool) -> Group:
    rows: list[Text | Padding] = []
    for number in chain:
        node = trace.tree.nodes[number]
        rows.append(_node_line(trace, node, full))
        if full and node.text:
            lines = "\n".join(printable(line) for line in node.text.strip("\n").splitlines())
            text = Text(lines, style="" if number in trace.best else "dim", overflow="fold")
            rows.append(Padding(text, (0, 0, 0, 2)))  # indented, so that no text looks like a node
    return Group(*rows)


def _node_line(trace: Trace, node: TreeNode, full: bool) -> Text:
    """Return the number, state and figures of a node, and its text unless that follows in full."""
    best = node.number in trace.best
    line = Text(no_wrap=not full, overflow="fold" if full else "ellipsis")
    line.append(f"{_BEST_MARK if best else ''}{node.number}", style="bold cyan" if best else "cyan")
    if node.parent is None:
        line.append("  prompt" if node.number == 0 else "  another prompt", style="bold")
    if node.answer is not None:
        style = "bold green" if node.answer == trace.header.answer else "yellow"
        line.append(f"  → {short_answer(node.answer)}", style=style)
    elif node.state is NodeState.ENDED:
        line.append("  → no answer", style="yellow")
    if node.state in (NodeState.FAILED, NodeState.PRUNED):
        line.append(f"  {node.state.value}", style="red")
    if node.note:
        line.append(f"  {printable(node.note)}", style="red")
    line.append("".join(f"  {figure}" for figure in node_figures(node)), style="dim")
    if not full and node.text:
        line.append("  " + " ".join(printable(node.text[:_SCANNED_CHARS]).split()), style="bold" if best else "")
    return line


def short_answer(answer: str) -> str:
    """Return an answer on one line, cut to 80 characters."""
    line = printable(answer)
    return line if len(line) <= _ANSWER_WIDTH else f"{line[: _ANSWER_WIDTH - 1]}…"


def node_figures(node: TreeNode) -> tuple[str, ...]:
    """Return the value, the visits and the tokens of a node as texts; without those that are missing or 0."""
    value = () if node.value is None else (f"value {node.value:.3g}",)
    visits = (f"×{node.visits}",) if node.visits else ()
    tokens = (f"{node.tokens} token{'' if node.tokens == 1 else 's'}",) if node.tokens else ()
    return (*value, *visits, *tokens)
