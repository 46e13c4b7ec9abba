"""`branchwise show`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from branchwise.cli.options import OUTPUT, stderr
from branchwise.cli.render.lines import print_answer, print_line
from branchwise.cli.render.tree_page import render_tree
from branchwise.cli.render.tree_text import print_tree
from branchwise.cli.trace import Head, Trace, read_trace
from branchwise.core.errors import ConfigError, require
from branchwise.core.result import Outcome

_FILE_WIDTH = 200  # of what is no terminal


def show(
    trace: Annotated[Path, typer.Argument(help="A file that branchwise solve --trace wrote.", metavar="TRACE")],
    depth: Annotated[
        int | None, typer.Option(help="Levels of branches to show. [default: as many as there is room for]")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Show texts as a whole.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the tree as node-link JSON.", rich_help_panel=OUTPUT)
    ] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write one page to read the tree on in a browser.", rich_help_panel=OUTPUT)
    ] = None,
    graphml: Annotated[Path | None, typer.Option(help="Write the tree as GraphML.", rich_help_panel=OUTPUT)] = None,
    open_: Annotated[bool, typer.Option("--open", help="Show the page in a browser.", rich_help_panel=OUTPUT)] = False,
) -> None:
    """Show what was explored for a question: its tree of reasoning, on the terminal, as a page or for other programs.

    With --html or --graphml, the tree is not printed.
    """
    require(depth is None or depth >= 1, "depth", f"is {depth}", "use at least 1")
    require(not open_ or html is not None, "open", "shows a page, and none was asked for", "name its file with --html")
    read = read_trace(trace)
    for field, file in (("html", html), ("graphml", graphml)):
        if file is not None:
            _check(field, file, trace)
    if html is not None:
        _write("html", html, render_tree(read))
    if graphml is not None:
        _write("graphml", graphml, read.tree.graphml())
    if as_json:
        typer.echo(json.dumps(_node_link(read)))
    elif html is None and graphml is None:
        console = Console()
        if not console.is_terminal:
            console = Console(width=_FILE_WIDTH)
        _print_head(console, read.head)
        print_tree(console, read, depth, full)
    if open_:
        typer.launch(str(html))


def _print_head(console: Console, head: Head) -> None:
    print_line(console, "question", " ".join(head.question.split()))
    print_line(console, "strategy", f"{head.strategy}, {head.model}")
    print_answer(console, head.answer, head.confidence, head.votes)
    if head.outcome != Outcome.COMPLETE.name.lower():
        print_line(console, "outcome", head.advice, style="yellow")
    for note in (*head.degraded, *head.errors):
        print_line(console, "note", note)
    usage = head.usage
    prompt = f"prompt {usage.prompt} tokens ({usage.reused} reused)"
    print_line(console, "cost", f"sampled {usage.sampled} tokens, {prompt}, {usage.seconds:.1f} s")
    console.print()


def _node_link(trace: Trace) -> dict[str, object]:
    """The tree as `networkx.node_link_graph(..., edges="edges")` reads it."""
    graph, head = trace.tree.graph(), trace.head
    return {
        "directed": True,
        "multigraph": False,
        "graph": {
            "question": head.question,
            "strategy": head.strategy,
            "model": head.model,
            "answer": head.answer,
            "confidence": head.confidence,
            "best_path": sorted(trace.best),
        },
        "nodes": [{"id": number, **attributes} for number, attributes in graph.nodes(data=True)],
        "edges": [{"source": source, "target": target} for source, target in graph.edges()],
    }


def _check(field: str, file: Path, trace: Path) -> None:
    require(not file.exists() or not file.samefile(trace), field, f"{file} is the trace itself", "use another file")


def _write(field: str, file: Path, text: str) -> None:
    try:
        file.write_bytes(text.encode("utf-8", errors="replace"))  # half a character (a surrogate) is none
    except OSError as error:
        raise ConfigError(field, f"cannot write {file} ({error.strerror})", "use another file") from error
    stderr.print(f"wrote {file}", style="dim", markup=False, highlight=False, soft_wrap=True)
