"""Errors as clients see them: they repeat at most 200 characters of the client's input."""

from branchwise.core.errors import BranchwiseError, ConfigError

MAX_MESSAGE = 500  # characters
_MAX_PROBLEM, MAX_FIELD = 140, 60  # characters of parts that may repeat the client's input


def client_message(error: BranchwiseError) -> str:
    """Return the text of an error for the client whose request caused it."""
    message = str(error)
    if isinstance(error, ConfigError):
        message = f"{without_middle(error.field, MAX_FIELD)}: {without_middle(error.problem)}; {error.fix}"
    return without_middle(message, MAX_MESSAGE)


def without_middle(text: str, length: int = _MAX_PROBLEM) -> str:
    """Return a text of at most `length` characters, without its middle if it is longer."""
    return text if len(text) <= length else f"{text[: length - 30]}[...]{text[-25:]}"
