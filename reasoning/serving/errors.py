"""Errors as HTTP statuses and OpenAI error objects."""

from collections.abc import Mapping
from typing import NamedTuple

from branchwise.chat.errors import MAX_FIELD, MAX_MESSAGE, client_message, without_middle
from branchwise.core.errors import BackendError, BranchwiseError, ConfigError, ContextLengthError

_CLIENT_ERROR = "invalid_request_error"
_RATE_LIMIT_ERROR = "rate_limit_error"
_SERVER_ERROR = "server_error"


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
        return _reply(400, client_message(error), _CLIENT_ERROR, code, without_middle(error.field, MAX_FIELD))
    if isinstance(error, BackendError):
        return _reply(503 if error.retryable else 500, str(error), _SERVER_ERROR, "backend_error")
    if isinstance(error, BranchwiseError):
        return _reply(500, str(error), _SERVER_ERROR, "failed")
    return _reply(500, "internal server error; see the server's log", _SERVER_ERROR, "internal_error")


def unknown_model(name: str) -> HTTPError:
    """Return the error of a request for a model that is not served."""
    message = f"the model {without_middle(repr(name))} is not served; GET /v1/models lists the models"
    return HTTPError(404, message, code="model_not_found", param="model")


def _reply(status: int, message: str, kind: str, code: str, param: str | None = None) -> ErrorReply:
    shown = without_middle(message, MAX_MESSAGE)
    return ErrorReply(status, {"error": {"message": shown, "type": kind, "param": param, "code": code}})
