"""What a client is told when it gets no answer."""

from collections.abc import Mapping

from branchwise.core.errors import BackendError, BranchwiseError, ConfigError

_CLIENTS, _SERVERS = "invalid_request_error", "server_error"


class Refused(BranchwiseError):  # noqa: N818  # nothing went wrong
    """A request that is turned away, with its HTTP status."""

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


def error_body(error: Exception) -> tuple[int, dict[str, dict[str, str | None]]]:
    """The HTTP status and OpenAI's error object. What is nobody's fault but the server's says nothing of its inside."""
    if isinstance(error, Refused):
        kind = _CLIENTS if error.status < 500 else _SERVERS
        if error.status == 429:
            kind = "rate_limit_error"
        return error.status, _body(str(error), kind, error.param, error.code)
    if isinstance(error, ConfigError):
        return 422, _body(str(error), _CLIENTS, error.field, "invalid_value")
    if isinstance(error, BackendError):
        return (503 if error.retryable else 500), _body(str(error), _SERVERS, None, "backend_error")
    if isinstance(error, BranchwiseError):
        return 500, _body(str(error), _SERVERS, None, "failed")
    return 500, _body("the server failed; its log says why", _SERVERS, None, "internal_error")


def _body(message: str, kind: str, param: str | None, code: str) -> dict[str, dict[str, str | None]]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
