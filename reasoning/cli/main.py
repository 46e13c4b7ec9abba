"""The command `branchwise`: registers the subcommands and turns errors into exit statuses."""

import errno
import os
import sys
from typing import Annotated, NoReturn

import typer

from branchwise import __version__
from branchwise.cli.eval import evaluate
from branchwise.cli.mcp import mcp
from branchwise.cli.models import models
from branchwise.cli.report import report
from branchwise.cli.sandbox import sandbox
from branchwise.cli.serve import serve
from branchwise.cli.show import show
from branchwise.cli.solve import solve
from branchwise.cli.strategies import strategies
from branchwise.core.errors import BranchwiseError
from branchwise.core.summary import printable

_INTERRUPTED = 130  # exit status that typer uses for KeyboardInterrupt
_OUTPUT_ERRORS = (errno.ENOSPC, errno.EIO, *([errno.EDQUOT] if hasattr(errno, "EDQUOT") else []))

app = typer.Typer(
    name="branchwise",
    help="Better answers from a language model, from many reasoning paths at low cost.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command(
    "solve",
    no_args_is_help=True,
    epilog="""
Examples:

- `branchwise solve "What is 17 * 23?" --paths 16`

- `branchwise solve "Is 91 prime?" --task yes-no --strategy self-consistency`

- `branchwise solve - --json --trace trace.json < question.txt`
""",
)(solve)
app.command(
    "eval",
    no_args_is_help=True,
    epilog="""
Examples:

- `branchwise eval gsm8k.jsonl --limit 20 --paths 10`

- `branchwise eval a.jsonl b.jsonl --strategy greedy --out results`

- `branchwise eval gsm8k.jsonl --strategy self-consistency --out pool`

- `branchwise eval gsm8k.jsonl --strategy esc --pool pool`

Each line of a file is a question: `{"id": "1", "question": "6 * 7?", "answer": "42", "answer_type": "number"}`. Answer
types: number (the default), latex, letter, yes_no, boolean, text, reference (a text, compared by BLEU and ROUGE), tests
(Python tests, run in a sandbox) and expression24 (Game of 24).
""",
)(evaluate)
app.command(
    "report",
    no_args_is_help=True,
    epilog="""
Examples:

- `branchwise eval gsm8k.jsonl --limit 20 --out results`

- `branchwise report results`
""",
)(report)
app.command(
    "show",
    no_args_is_help=True,
    epilog="""
Examples:

- `branchwise solve "What is 17 * 23?" --trace trace.json`

- `branchwise show trace.json`

- `branchwise show trace.json --html tree.html --open`

- `branchwise show trace.json --graphml tree.graphml`
""",
)(show)
app.command(
    "serve",
    epilog="""
Examples:

- `branchwise serve --model Qwen2.5-Coder-0.5B-Instruct --port 8000`

- `branchwise serve --base-url http://localhost:8001 --strategy esc`

- `BRANCHWISE_API_KEY=... branchwise serve --host 0.0.0.0`

- `curl localhost:8000/v1/chat/completions -H "Content-Type: application/json" -d '{"model": "...", "messages":
[{"role": "user", "content": "What is 17 * 23?"}], "branchwise": {"paths": 8}}'`
""",
)(serve)
app.command(
    "mcp",
    epilog="""
Examples:

- `branchwise mcp --model Qwen2.5-Coder-0.5B-Instruct`
""",
)(mcp)
app.command(
    "strategies",
    epilog="""
Examples:

- `branchwise strategies`

- `branchwise strategies path-consistency`

- `branchwise solve "What is 17 * 23?" --strategy path-consistency:window=4`
""",
)(strategies)
app.add_typer(models, name="models")
app.add_typer(sandbox, name="sandbox")


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"branchwise {__version__}")
        raise typer.Exit


@app.callback(
    epilog="""
Examples:

- `branchwise solve "What is 17 * 23?" --paths 16`

- `branchwise solve - --json < question.txt`

- `branchwise eval gsm8k.jsonl --limit 20`

- `branchwise models list`
"""
)
def global_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Better answers from a language model, from many reasoning paths at low cost."""


def main() -> None:
    """Run the command line.

    Exit status: 0 with an answer, 1 without one, 2 for invalid arguments, 130 for an interrupt.
    """
    os.environ.setdefault("TQDM_DISABLE", "1")  # commands show their own progress; must be set before the hub's import
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # commands report errors; must be set before the hub's import
    try:
        app()
    except BranchwiseError as error:
        _exit_with_error(_with_flag(str(error)))
    except OSError as error:
        if error.errno not in _OUTPUT_ERRORS:
            raise
        _exit_with_error(f"the output cannot be written ({error.strerror}); write it somewhere else")
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            sys.stderr.flush()
            os._exit(_INTERRUPTED)  # without waiting for downloads in other threads
        raise


def _with_flag(message: str) -> str:
    """Return an error message with its field as the user typed it: `--top-p` for `top_p`."""
    field = message.partition(":")[0]
    flag = f"--{field.replace('_', '-')}"
    typed = any(argument == flag or argument.startswith(f"{flag}=") for argument in sys.argv[1:])
    return flag + message[len(field) :] if typed else message


def _exit_with_error(problem: str) -> NoReturn:
    typer.echo(f"error: {printable(problem)}", err=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
