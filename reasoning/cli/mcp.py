"""`branchwise mcp`."""

import sys
from contextlib import redirect_stdout
from typing import Annotated

import typer

from branchwise.chat.config import Arguments
from branchwise.cli.options import (
    MAX_TOKENS_HELP,
    BackendName,
    BaseURL,
    Device,
    DraftModel,
    Dtype,
    ModelName,
    ModelOptions,
    Speculation,
)
from branchwise.prompts.library import TASKS
from branchwise.registry import DEFAULT, STRATEGIES

CALLS = "What a call leaves open"


def mcp(
    model: ModelName = None,
    backend: BackendName = None,
    base_url: BaseURL = None,
    device: Device = None,
    dtype: Dtype = None,
    speculation: Speculation = "auto",
    draft_model: DraftModel = None,
    strategy: Annotated[
        str,
        typer.Option(
            help=f"{', '.join(STRATEGIES)}; with options: NAME:option=value,option=value.",
            metavar="<strategy>",
            rich_help_panel=CALLS,
        ),
    ] = DEFAULT,
    paths: Annotated[int, typer.Option(help="Most paths for a question.", rich_help_panel=CALLS)] = 8,
    task: Annotated[str, typer.Option(help=f"{', '.join(TASKS)}.", rich_help_panel=CALLS)] = "math",
    seed: Annotated[int, typer.Option(help="Equal seeds give equal paths.", rich_help_panel=CALLS)] = 0,
    budget_tokens: Annotated[
        int | None, typer.Option(help="Most tokens to sample for a question.", rich_help_panel=CALLS)
    ] = None,
    budget_seconds: Annotated[
        float | None, typer.Option(help="Most seconds for a question.", rich_help_panel=CALLS)
    ] = None,
    temperature: Annotated[float, typer.Option(help="0 is greedy.", rich_help_panel=CALLS)] = 0.7,
    max_tokens: Annotated[int | None, typer.Option(help=MAX_TOKENS_HELP, rich_help_panel=CALLS)] = None,
) -> None:
    """Serve the tool `solve` over standard input and output, for clients of the Model Context Protocol.

    The model is loaded once, before the first call. Nothing but the protocol is written to standard output.
    """
    usual = Arguments.read(
        {
            "strategy": strategy,
            "paths": paths,
            "task": task,
            "seed": seed,
            "budget_tokens": budget_tokens,
            "budget_seconds": budget_seconds,
            "temperature": temperature,
            "max_tokens": max_tokens,
        }
    )
    wanted = ModelOptions(model, device, dtype, speculation, draft_model, backend, tuple(base_url or ()))
    wanted.check()
    from branchwise.integrations.mcp import server  # the package behind it may be missing

    with redirect_stdout(sys.stderr):
        loaded = wanted.load()
    server(loaded, usual).run("stdio")
