"""A tree of reasoning on a terminal."""

from collections.abc import Iterator

from rich.console import Console, Group
from rich.padding import Padding
from rich.text import Text
from rich.tree import Tree as Drawing

from branchwise.cli.options import printable
from branchwise.cli.trace import Trace
from branchwise.core.tree import NodeState, TreeNode

_GUIDE = 4  # columns a level is indented by
_LEAST = 40  # columns that a line needs beside the guides
_SCANNED = 2000  # characters of a text that a line may show
_ANSWER = 80  # characters of an answer
_MARK = {True: "★ ", False: ""}


def print_tree(console: Console, trace: Trace, depth: int | None, full: bool) -> None:
    """Print the tree; the nodes of the best path are marked.

    Where a node goes on in one way only, that is told below it at the same level: a level is a place where the tree
    branches. Levels below `depth` are counted only; without one, those that the console has no room for.
    """
    if depth is None:
        levels = max(1, (console.width - _LEAST) // _GUIDE)
    else:
        levels = depth
        console = Console(file=console.file, width=max(console.width, _GUIDE * min(depth, _deepest(trace)) + _LEAST))
    for drawing in _draw(trace, levels, full):
        console.print(drawing, highlight=False)


def _draw(trace: Trace, levels: int, full: bool) -> Iterator[Drawing]:
    """A drawing for each prompt; nothing here recurses, for trees are as deep as paths are long."""
    below = _below(trace)
    for root in trace.tree.roots:
        line = trace.straight(root)
        drawing = Drawing(_label(trace, line, full), guide_style="dim")
        open_ = [(drawing, line[-1], 1)]
        while open_:
            drawn, number, level = open_.pop()
            if level > levels and below[number]:
                drawn.add(Text(f"… {below[number]} more nodes", style="dim"))
                continue
            for child in trace.tree.children(number):
                line = trace.straight(child)
                open_.append((drawn.add(_label(trace, line, full)), line[-1], level + 1))
        yield drawing


def _below(trace: Trace) -> list[int]:
    """[nodes] how many come below each."""
    below = [0 for _ in trace.tree.nodes]
    for node in reversed(trace.tree.nodes):
        if node.parent is not None:
            below[node.parent] += below[node.number] + 1
    return below


def _deepest(trace: Trace) -> int:
    """The most levels of a path."""
    levels = [0 for _ in trace.tree.nodes]
    for node in trace.tree.nodes:
        if node.parent is not None:
            levels[node.number] = levels[node.parent] + (len(trace.tree.children(node.parent)) > 1)
    return max(levels)


def _label(trace: Trace, line: tuple[int, ...], full: bool) -> Group:
    rows: list[Text | Padding] = []
    for number in line:
        node = trace.tree.nodes[number]
        rows.append(_row(trace, node, full))
        if full and node.text:
            lines = "\n".join(printable(each) for each in node.text.strip("\n").splitlines())
            text = Text(lines, style="" if number in trace.best else "dim", overflow="fold")
            rows.append(Padding(text, (0, 0, 0, 2)))  # or a text could pass for nodes
    return Group(*rows)


def _row(trace: Trace, node: TreeNode, full: bool) -> Text:
    """What a node is, and as much of its text as the line has room for."""
    best = node.number in trace.best
    row = Text(no_wrap=not full, overflow="fold" if full else "ellipsis")
    row.append(f"{_MARK[best]}{node.number}", style="bold cyan" if best else "cyan")
    if node.parent is None:
        row.append("  prompt" if node.number == 0 else "  another prompt", style="bold")
    if node.answer is not None:
        style = "bold green" if node.answer == trace.head.answer else "yellow"
        row.append(f"  → {shortened(node.answer)}", style=style)
    elif node.state is NodeState.ENDED:
        row.append("  → no answer", style="yellow")
    if node.state in (NodeState.FAILED, NodeState.PRUNED):
        row.append(f"  {node.state.value}", style="red")
    if node.note:
        row.append(f"  {printable(node.note)}", style="red")
    row.append("".join(f"  {fact}" for fact in figures(node)), style="dim")
    if not full and node.text:
        row.append("  " + " ".join(printable(node.text[:_SCANNED]).split()), style="bold" if best else "")
    return row


def shortened(answer: str) -> str:
    """An answer, however long, on one line."""
    words = printable(answer)
    return words if len(words) <= _ANSWER else f"{words[: _ANSWER - 1]}…"


def figures(node: TreeNode) -> tuple[str, ...]:
    """Its value, visits and tokens, where there are any."""
    value = () if node.value is None else (f"value {node.value:.3g}",)
    visits = (f"×{node.visits}",) if node.visits else ()
    tokens = (f"{node.tokens} token{'' if node.tokens == 1 else 's'}",) if node.tokens else ()
    return (*value, *visits, *tokens)
