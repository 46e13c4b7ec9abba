"""The command `branchwise`."""

import os
import sys
from typing import Annotated

import typer

from branchwise import __version__
from branchwise.cli.eval import evaluate
from branchwise.cli.models import models
from branchwise.cli.options import printable
from branchwise.cli.solve import solve
from branchwise.errors import BranchwiseError

app = typer.Typer(
    name="branchwise",
    help="Better answers from a language model by exploring many reasoning paths, cheaply.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("solve", no_args_is_help=True)(solve)
app.command("eval", no_args_is_help=True)(evaluate)
app.add_typer(models, name="models")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"branchwise {__version__}")
        raise typer.Exit


@app.callback(
    epilog="""
Examples:

- `branchwise solve "What is 17 * 23?" --paths 16`

- `branchwise solve - --json < question.txt`

- `branchwise eval gsm8k.jsonl --strategy self-consistency --strategy path-consistency --limit 20`

- `branchwise models list`
"""
)
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Better answers from a language model by exploring many reasoning paths, cheaply."""


def main() -> None:
    """Run the command line: exit 0 with an answer, 1 with none, 2 for bad arguments."""
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # read when transformers and the hub's client are imported
    try:
        app()
    except BranchwiseError as error:
        typer.echo(f"error: {printable(str(error))}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
