"""`branchwise show`: print or export the tree of reasoning in a trace."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from branchwise.cli.options import OUTPUT, OpenPage
from branchwise.cli.render.lines import print_line, print_summary
from branchwise.cli.render.terminal import stderr, wide_stdout
from branchwise.cli.render.tree_page import render_tree
from branchwise.cli.render.tree_text import print_tree
from branchwise.cli.trace import Trace, TraceHeader, read_trace
from branchwise.core.errors import ConfigError, require
from branchwise.core.result import Outcome
from branchwise.core.summary import answer_lines


def show(
    trace: Annotated[Path, typer.Argument(help="File that `branchwise solve --trace` wrote.", metavar="TRACE")],
    depth: Annotated[
        int | None, typer.Option(help="Number of levels to show. [default: as many as fit the terminal]")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Show texts in full.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the tree as node-link JSON.", rich_help_panel=OUTPUT)
    ] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write the tree as an HTML page to this file.", rich_help_panel=OUTPUT)
    ] = None,
    graphml: Annotated[
        Path | None, typer.Option(help="Write the tree as GraphML to this file.", rich_help_panel=OUTPUT)
    ] = None,
    open_page: OpenPage = False,
) -> None:
    """Show the tree of reasoning behind an answer.

    Prints the tree, unless --html or --graphml is set.
    """
    require(depth is None or depth >= 1, "depth", f"is {depth}", "use at least 1")
    require(not open_page or html is not None, "open", "needs a page", "name its file with --html")
    read = read_trace(trace)
    for field, file in (("html", html), ("graphml", graphml)):
        if file is not None:
            same = file.exists() and file.samefile(trace)
            require(not same, field, f"{file} is the trace itself", "use another file")
    if html is not None:
        _write("html", html, render_tree(read))
    if graphml is not None:
        _write("graphml", graphml, read.tree.graphml())
    if as_json:
        typer.echo(json.dumps(_node_link(read)))
    elif html is None and graphml is None:
        console = wide_stdout()
        _print_header(console, read.header)
        print_tree(console, read, depth, full)
    if open_page:
        typer.launch(str(html))


def _print_header(console: Console, header: TraceHeader) -> None:
    print_line(console, "question", " ".join(header.question.split()))
    print_line(console, "strategy", f"{header.strategy}, {header.model}")
    print_summary(console, answer_lines(header.answer, header.confidence, header.votes))
    if header.outcome != Outcome.COMPLETE.name.lower():
        print_line(console, "outcome", header.advice, style="yellow")
    for note in (*header.degraded, *header.errors):
        print_line(console, "note", note)
    usage = header.usage
    prompt = f"prompt {usage.prompt} tokens ({usage.reused} reused)"
    print_line(console, "cost", f"sampled {usage.sampled} tokens, {prompt}, {usage.seconds:.1f} s")
    console.print()


def _node_link(trace: Trace) -> dict[str, object]:
    """Return the tree in the form that `networkx.node_link_graph(..., edges="edges")` reads."""
    graph, header = trace.tree.graph(), trace.header
    return {
        "directed": True,
        "multigraph": False,
        "graph": {
            "question": header.question,
            "strategy": header.strategy,
            "model": header.model,
            "answer": header.answer,
            "confidence": header.confidence,
            "best_path": sorted(trace.best),
        },
        "nodes": [{"id": number, **attributes} for number, attributes in graph.nodes(data=True)],
        "edges": [{"source": source, "target": target} for source, target in graph.edges()],
    }


def _write(field: str, file: Path, text: str) -> None:
    try:
        file.write_bytes(text.encode("utf-8", errors="replace"))  # models may write unpaired surrogates
    except OSError as error:
        raise ConfigError(field, f"cannot write {file} ({error.strerror})", "use another file") from error
    stderr.print(f"wrote {file}", style="dim", markup=False, highlight=False, soft_wrap=True)
