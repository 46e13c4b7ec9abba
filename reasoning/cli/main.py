"""The command `branchwise`."""

import errno
import os
import sys
from typing import Annotated, NoReturn

import typer

from branchwise import __version__
from branchwise.cli.eval import evaluate
from branchwise.cli.mcp import mcp
from branchwise.cli.models import models
from branchwise.cli.options import printable
from branchwise.cli.report import report
from branchwise.cli.serve import serve
from branchwise.cli.show import show
from branchwise.cli.solve import solve
from branchwise.cli.strategies import strategies
from branchwise.core.errors import BranchwiseError

_INTERRUPTED = 130  # what typer makes of a KeyboardInterrupt

app = typer.Typer(
    name="branchwise",
    help="Better answers from a language model by exploring many reasoning paths, cheaply.",
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

- `branchwise eval gsm8k.jsonl --strategy self-consistency --paths 40 --out pool`

- `branchwise eval gsm8k.jsonl --strategy esc --strategy adaptive-consistency --paths 40 --pool pool`

A line of a file: `{"id": "1", "question": "6 * 7?", "answer": "42", "answer_type": "number"}`. The answer_type is
number (the default), latex, letter, yes_no, boolean, text, reference (a text that BLEU and ROUGE compare), tests
(Python, run in a sandbox) or expression24 (Game of 24).
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

- `branchwise serve --base-url http://localhost:8001 --strategy path-consistency:window=4`

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

- `branchwise solve "What is 17 * 23?" --strategy path-consistency:window=4,stop_at=none`
""",
)(strategies)
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

- `branchwise eval gsm8k.jsonl --limit 20`

- `branchwise models list`
"""
)
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Better answers from a language model by exploring many reasoning paths, cheaply."""


def _as_typed(message: str) -> str:
    """An error with its field called as it was typed: `--top-p` for `top_p`."""
    field = message.partition(":")[0]
    flag = f"--{field.replace('_', '-')}"
    typed = any(argument == flag or argument.startswith(f"{flag}=") for argument in sys.argv[1:])
    return flag + message[len(field) :] if typed else message


def main() -> None:
    """Run the command line: exit 0 with an answer, 1 with none, 2 for bad arguments, 130 for an interrupt."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # progress is shown here; read when the hub's client is imported
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # errors come as ours; read when its client is imported
    try:
        app()
    except BranchwiseError as error:
        _refuse(_as_typed(str(error)))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        _refuse(f"the output cannot be written ({error.strerror}); write it somewhere else")
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            sys.stderr.flush()
            os._exit(_INTERRUPTED)  # whoever interrupts does not wait for downloads that go on in threads
        raise


def _refuse(problem: str) -> NoReturn:
    typer.echo(f"error: {printable(problem)}", err=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
