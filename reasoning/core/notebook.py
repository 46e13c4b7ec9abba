"""A result as HTML for notebooks: a table, bars of the votes and a small tree. Everything in it is escaped."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from branchwise.core.summary import SummaryLine, clipped
from branchwise.core.tree import NodeState, Tree

_SHOWN_VOTES = 8
_SHOWN_NODES = 30
_ANSWER_CHARS, _TEXT_CHARS, _VALUE_CHARS = 60, 90, 300
_DIM = "opacity: .65"


def result_html(lines: Sequence[SummaryLine], votes: Mapping[str, float], tree: Tree, answer: str | None) -> str:
    """Return the HTML of a result: its summary, its votes and its tree with the best path marked."""
    return "\n".join(
        (
            '<div style="font-family: sans-serif; font-size: 13px; line-height: 1.5; text-align: left">',
            *_table(line for line in lines if line.name != "votes"),
            *_bars(votes),
            *_tree(tree, answer),
            "</div>",
        )
    )


def _table(lines: Iterator[SummaryLine]) -> Iterator[str]:
    yield '<div style="display: grid; grid-template-columns: max-content 1fr; column-gap: 1.2em">'
    for name, value in lines:
        weight = "; font-weight: bold" if name == "answer" else ""
        shown = escape(clipped(value, _VALUE_CHARS))
        yield f'<div style="{_DIM}">{escape(name)}</div><div style="overflow-wrap: anywhere{weight}">{shown}</div>'
    yield "</div>"


def _bars(votes: Mapping[str, float]) -> Iterator[str]:
    """Yield a bar for each of the first answers, as long as its share of the largest weight."""
    if not votes:
        return
    largest = max(votes.values())
    columns = "max-content 10em max-content"
    yield f'<div style="display: grid; grid-template-columns: {columns}; column-gap: 1em; margin: .6em 0">'
    for answer, weight in list(votes.items())[:_SHOWN_VOTES]:
        width = max(0.0, 100 * weight / largest) if largest > 0 else 0.0
        bar = f"background: #4c8bf5; height: .8em; margin-top: .35em; width: {width:.1f}%"
        yield f'<div>{escape(clipped(answer, _ANSWER_CHARS))}</div><div><div style="{bar}"></div></div>'
        yield f"<div>{round(weight, 3):g}</div>"
    yield "</div>"
    if len(votes) > _SHOWN_VOTES:
        yield f'<div style="{_DIM}">and {len(votes) - _SHOWN_VOTES} more answers</div>'


def _tree(tree: Tree, answer: str | None) -> Iterator[str]:
    """Yield the first nodes depth first, indented where the tree branches. The prompt itself is left out."""
    if len(tree.nodes) < 2:
        return
    best = set() if answer is None else set(tree.best_path(answer))
    yield f"<details open><summary>tree of {len(tree.nodes) - 1} nodes</summary>"
    stack = [(root, 0) for root in reversed(tree.roots)]
    shown = 0
    while stack and shown < _SHOWN_NODES:
        number, level = stack.pop()
        children = tree.children(number)
        if number not in tree.roots:
            shown += 1
            yield _node(tree, number, level, number in best)
            level += len(children) > 1
        stack.extend((child, level) for child in reversed(children))
    if shown < len(tree.nodes) - len(tree.roots):
        yield f'<div style="{_DIM}">… {len(tree.nodes) - len(tree.roots) - shown} more nodes</div>'
    yield "</details>"


def _node(tree: Tree, number: int, level: int, best: bool) -> str:
    """Return the line of a node: its text, its answer if a path ends there, its value and its state."""
    node = tree.nodes[number]
    figures = [] if node.value is None else [f"value {node.value:.3g}"]
    if node.state in (NodeState.FAILED, NodeState.PRUNED):
        figures.append(node.state.value)
    end = ""
    if node.answer is not None:
        end = f" <b>→ {escape(clipped(node.answer, _ANSWER_CHARS))}</b>"
    elif node.state is NodeState.ENDED:
        end = " → no answer"
    style = f"padding-left: {1.4 * level:.1f}em; white-space: nowrap; overflow: hidden; text-overflow: ellipsis"
    mark = "★ " if best else ""
    text = escape(clipped(node.text, _TEXT_CHARS))
    aside = f' <span style="{_DIM}">{escape(", ".join(figures))}</span>' if figures else ""
    return f'<div style="{style}">{mark}{text}{end}{aside}</div>'
