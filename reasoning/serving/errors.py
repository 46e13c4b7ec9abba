"""Errors as HTTP statuses and OpenAI error objects."""

from collections.abc import Mapping
from typing import NamedTuple

from branchwise.core.errors import BackendError, BranchwiseError, ConfigError, ContextLengthError

_CLIENT_ERROR = "invalid_request_error"
_RATE_LIMIT_ERROR = "rate_limit_error"
_SERVER_ERROR = "server_error"
_MAX_INPUT, _MAX_FIELD = 140, 60
"""Characters of a problem and of a field's name in a reply: both may repeat the client's input."""


class HTTPError(BranchwiseError):
    """A request that is rejected with an HTTP status."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.headers = dict(headers or {})


class ErrorReply(NamedTuple):
    """An HTTP status and the JSON body that goes with it."""

    status: int
    body: dict[str, dict[str, str | None]]


def error_reply(error: Exception) -> ErrorReply:
    """Return the status and OpenAI's error object. The text of an unexpected error is not shown to clients."""
    if isinstance(error, HTTPError):
        kind = _CLIENT_ERROR if error.status < 500 else _SERVER_ERROR
        if error.status == 429:
            kind = _RATE_LIMIT_ERROR
        return _reply(error.status, _shortened(str(error), 2 * _MAX_INPUT), kind, error.code, error.param)
    if isinstance(error, ConfigError):
        code = "context_length_exceeded" if isinstance(error, ContextLengthError) else "invalid_value"
        problem, fix = _shortened(error.problem), _shortened(error.fix, 2 * _MAX_INPUT)
        field = _shortened(error.field, _MAX_FIELD)
        return _reply(400, f"{field}: {problem}; {fix}", _CLIENT_ERROR, code, field)
    if isinstance(error, BackendError):
        return _reply(
            503 if error.retryable else 500, _shortened(str(error), 4 * _MAX_INPUT), _SERVER_ERROR, "backend_error"
        )
    if isinstance(error, BranchwiseError):
        return _reply(500, _shortened(str(error), 4 * _MAX_INPUT), _SERVER_ERROR, "failed")
    return _reply(500, "internal server error; see the server's log", _SERVER_ERROR, "internal_error")


def _shortened(text: str, length: int = _MAX_INPUT) -> str:
    """Return a text of at most `length` characters, without its middle if it is longer."""
    return text if len(text) <= length else f"{text[: length - 30]}[...]{text[-25:]}"


def _reply(status: int, message: str, kind: str, code: str, param: str | None = None) -> ErrorReply:
    return ErrorReply(status, {"error": {"message": message, "type": kind, "param": param, "code": code}})
