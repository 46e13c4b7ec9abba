"""The terminal: standard error and standard output as consoles."""

from rich.console import Console

stderr = Console(stderr=True)

_PIPE_WIDTH = 200  # columns if the output is not a terminal


def wide_stdout() -> Console:
    """Return a console for standard output, 200 columns wide if that is not a terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=_PIPE_WIDTH)
