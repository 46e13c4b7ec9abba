"""`branchwise models`: list and download models."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from branchwise.backends.models.cache import converted_models
from branchwise.backends.models.hub import hub_models
from branchwise.backends.models.names import DEFAULT_MODEL, HUB_IDS
from branchwise.backends.models.resolve import resolve
from branchwise.cli.interrupts import interruptible
from branchwise.cli.render.progress import fetch_progress

models = typer.Typer(help="List and download models.", no_args_is_help=True)


@models.command("list")
def list_models() -> None:
    """List the models on this machine, and those that have a short name."""
    sizes = {model.name: model.size for model in (*hub_models(), *converted_models())}
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("name", overflow="fold")
    table.add_column("hub id", overflow="fold")
    table.add_column("on disk", justify="right", no_wrap=True)
    for name, hub_id in HUB_IDS.items():
        size = sizes.pop(name, None) or sizes.pop(hub_id, None)
        table.add_row(name, hub_id, "no" if size is None else _megabytes(size))
    for name, size in sizes.items():
        table.add_row(name, name if "/" in name else "", _megabytes(size))
    console = Console()
    console.print(table)
    console.print(f"The default model is {DEFAULT_MODEL}.", style="dim", highlight=False)
    console.print("--model also takes a local folder, a GGUF file or the hub id of a causal LM.", style="dim")


@models.command("pull", no_args_is_help=True)
def pull(
    name: Annotated[str, typer.Argument(help="A name from `branchwise models list`, a hub id or a GGUF file.")],
) -> None:
    """Download a model or convert a GGUF file, and print the model's folder."""
    with interruptible(), fetch_progress(f"fetching {name}") as progress:
        folder = resolve(name, progress)
    typer.echo(str(folder))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
