"""`branchwise sandbox`: check how programs are confined on this machine."""

from typing import Annotated

import typer

from branchwise.sandbox.sandbox import Layers, check_sandbox

sandbox = typer.Typer(help="Check the sandbox for programs.", no_args_is_help=True)

_WITHOUT = {
    "namespaces": "the program shares the file system with this machine",
    "landlock": "files are protected by the private file system and by permissions alone",
    "seccomp": "every system call of an unprivileged process is permitted",
}


@sandbox.command("check")
def check(
    strict: Annotated[
        bool, typer.Option(help="Fail unless namespaces, or Landlock with seccomp, hold, as `eval` and `serve` do.")
    ] = True,
) -> None:
    """Run an empty program and print which layers confine it."""
    held = check_sandbox(strict=strict)
    for name in Layers._fields:
        typer.echo(f"{name:<12}{'yes' if getattr(held, name) else f'no: {_WITHOUT[name]}'}")
