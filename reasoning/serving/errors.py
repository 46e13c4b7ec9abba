"""Errors as HTTP statuses and OpenAI error objects."""

from collections.abc import Mapping
from typing import NamedTuple

from branchwise.core.errors import BackendError, BranchwiseError, ConfigError, ContextLengthError

_CLIENT_ERROR = "invalid_request_error"
_RATE_LIMIT_ERROR = "rate_limit_error"
_SERVER_ERROR = "server_error"
_MAX_MESSAGE = 500  # characters
_MAX_PROBLEM, _MAX_FIELD = 140, 60  # characters of parts that may repeat the client's input


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
        return _reply(error.status, str(error), kind, error.code, error.param)
    if isinstance(error, ConfigError):
        code = "context_length_exceeded" if isinstance(error, ContextLengthError) else "invalid_value"
        field = without_middle(error.field, _MAX_FIELD)
        message = f"{field}: {without_middle(error.problem)}; {error.fix}"
        return _reply(400, message, _CLIENT_ERROR, code, field)
    if isinstance(error, BackendError):
        return _reply(503 if error.retryable else 500, str(error), _SERVER_ERROR, "backend_error")
    if isinstance(error, BranchwiseError):
        return _reply(500, str(error), _SERVER_ERROR, "failed")
    return _reply(500, "internal server error; see the server's log", _SERVER_ERROR, "internal_error")


def unknown_model(name: str) -> HTTPError:
    """Return the error of a request for a model that is not served."""
    message = f"the model {without_middle(repr(name))} is not served; GET /v1/models lists the models"
    return HTTPError(404, message, code="model_not_found", param="model")


def without_middle(text: str, length: int = _MAX_PROBLEM) -> str:
    """Return a text of at most `length` characters, without its middle if it is longer."""
    return text if len(text) <= length else f"{text[: length - 30]}[...]{text[-25:]}"


def _reply(status: int, message: str, kind: str, code: str, param: str | None = None) -> ErrorReply:
    shown = without_middle(message, _MAX_MESSAGE)
    return ErrorReply(status, {"error": {"message": shown, "type": kind, "param": param, "code": code}})
