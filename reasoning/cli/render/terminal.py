"""The terminal: standard error as a console, and text that cannot control it."""

import re

from rich.console import Console

stderr = Console(stderr=True)

_PIPE_WIDTH = 200  # columns if the output is not a terminal
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


def printable(text: str) -> str:
    """Return untrusted text on one line, without control characters and unpaired surrogates."""
    return _CONTROLS.sub(" ", text)


def wide_stdout() -> Console:
    """Return a console for standard output, 200 columns wide if that is not a terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=_PIPE_WIDTH)
