"""Errors of requests to a server, each with its retryability and a hint."""

import json
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import httpx

from branchwise.core.errors import BackendError

_MAX_MESSAGE = 300
"""Most characters of a server's message that an error repeats."""
_RETRYABLE_STATUSES = frozenset({408, 409, 425, 429})


class ServerError(BackendError):
    """A request that failed.

    `unreachable`: no connection could be made; `retry_after`: seconds that the server asks to wait; `about_length`: the
    prompt or the response is too long for the model.
    """

    def __init__(
        self,
        problem: str,
        *,
        retryable: bool,
        hint: str,
        status: int | None = None,
        retry_after: float | None = None,
        unreachable: bool = False,
        about_length: bool = False,
    ) -> None:
        super().__init__(problem, retryable=retryable, hint=hint)
        self.about_length = about_length
        self.status = status
        self.retry_after = retry_after
        self.unreachable = unreachable


def status_error(url: str, status: int, headers: Mapping[str, str], body: bytes, key: str | None) -> ServerError:
    """Return the error for a response with a status other than 200."""
    message = _server_message(body, key)
    if status in (401, 403):
        message = _without_key_parts(message, key)
    retryable = status in _RETRYABLE_STATUSES or (status >= 500 and status not in (501, 505))
    problem = f"{url} answered {status}" + (f" ({message})" if message else "")
    wait = parse_retry_after(headers.get("retry-after"), time.time()) if retryable else None
    return ServerError(
        problem,
        retryable=retryable,
        hint=_hint(status, message),
        status=status,
        retry_after=wait,
        about_length=_is_about_length(message),
    )


def streamed_error(url: str, error: object, key: str | None) -> ServerError:
    """Return the error that a server reported inside a stream."""
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    message = _server_message(json.dumps({"error": error}).encode(), key)
    retryable = status in _RETRYABLE_STATUSES or status >= 500
    return ServerError(
        f"{url} ended the stream with an error ({message})",
        retryable=retryable,
        hint=_hint(status, message),
        status=status,
        about_length=_is_about_length(message),
    )


def malformed_response(url: str, problem: str, status: int | None = None) -> ServerError:
    """Return the error for a stream that violates the protocol."""
    return ServerError(
        f"{url} {problem}",
        retryable=True,
        hint="if it happens again, check that the server follows the OpenAI protocol",
        status=status,
    )


def unexpected_response(url: str, path: str, body: bytes, key: str | None) -> ServerError:
    """Return the error for a response without the expected fields, or one that is not JSON."""
    message = _server_message(body, key)
    words = f" ({message})" if message else ""
    return ServerError(
        f"{url}{path} answers like no OpenAI-compatible server{words}", retryable=False, hint="check base_urls"
    )


def connection_error(url: str, error: httpx.HTTPError) -> ServerError:
    """Return the error for a connection that failed."""
    unreachable = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
    if unreachable:
        problem, hint = f"{url} can't be reached", "check that the server runs, and base_urls"
    elif isinstance(error, httpx.TimeoutException):
        problem, hint = f"{url} sent nothing for too long", "raise idle_timeout, or lower concurrency"
    else:
        problem, hint = f"the connection to {url} broke", "check the server's own log"
    return ServerError(f"{problem} ({type(error).__name__})", retryable=True, hint=hint, unreachable=unreachable)


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Return the seconds of a Retry-After header, a number or an HTTP date (RFC 9110, 10.2.3); None for neither."""
    if value is None:
        return None
    try:
        return max(0.0, float(value.strip()))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _server_message(body: bytes, key: str | None) -> str:
    """Return the message of an error response on one line, without the key."""
    text = body.decode(errors="replace")
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = None
    if isinstance(parsed, dict):
        error = parsed.get("error", parsed)
        message = error.get("message", error.get("detail")) if isinstance(error, dict) else error
        text = message if isinstance(message, str) else json.dumps(error)
    if key:
        text = text.replace(key, "***")
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _MAX_MESSAGE else line[: _MAX_MESSAGE - 3] + "..."


def _is_about_length(message: str) -> bool:
    return "context" in message.lower() or "max_tokens" in message


def _without_key_parts(message: str, key: str | None) -> str:
    """Return a message without the words that may show a part of the key, such as sk-ab***yz."""
    parts = {part.lower() for part in ((key or "")[:4], (key or "")[-4:]) if part}
    words = message.split()
    return " ".join("***" if "*" in word or any(part in word.lower() for part in parts) else word for word in words)


def _hint(status: int, message: str) -> str:
    if status in (401, 403):
        return "set the key: in the environment (api_key_env) or as api_key"
    if status == 404:
        return "check base_urls and model"
    if status == 429:
        return "lower concurrency, or ask the server's operator for more"
    if status >= 500 or status in _RETRYABLE_STATUSES:
        return "check the server's own log"
    if 300 <= status < 400:
        return "use the address that it moved to"
    if _is_about_length(message):
        return "shorten the question, or lower max_tokens"
    return "leave out what the server names"
