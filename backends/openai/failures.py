"""What goes wrong between here and a server, as errors that say whether to try again."""

import json
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import httpx

from branchwise.core.errors import BackendError

_SHOWN = 300  # characters of a server's own words that an error repeats
_PASSING = frozenset({408, 409, 425, 429})


class ServerError(BackendError):
    """A request that failed. `unreachable`: nobody answers at that address; `wait`: seconds the server asks for."""

    def __init__(
        self,
        problem: str,
        *,
        retryable: bool,
        hint: str,
        status: int | None = None,
        wait: float | None = None,
        unreachable: bool = False,
    ) -> None:
        super().__init__(problem, retryable=retryable, hint=hint)
        self.status = status
        self.wait = wait
        self.unreachable = unreachable


def refusal(url: str, status: int, headers: Mapping[str, str], body: bytes, key: str | None) -> ServerError:
    """The error for an answer that is none."""
    said = "" if status in (401, 403) else _said(body, key)  # they may repeat a part of the key
    retryable = status in _PASSING or (status >= 500 and status not in (501, 505))
    problem = f"{url} answered {status}" + (f" ({said})" if said else "")
    wait = retry_after(headers.get("retry-after"), time.time()) if retryable else None
    return ServerError(problem, retryable=retryable, hint=_hint(status, said), status=status, wait=wait)


def in_stream(url: str, error: object, key: str | None) -> ServerError:
    """The error that a server told amid an answer."""
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    said = _said(json.dumps({"error": error}).encode(), key)
    retryable = status in _PASSING or status >= 500
    return ServerError(
        f"{url} broke its answer off ({said})", retryable=retryable, hint=_hint(status, said), status=status
    )


def malformed(url: str, what: str) -> ServerError:
    """The error for an answer that can't be read."""
    return ServerError(
        f"{url} {what}", retryable=True, hint="if this goes on, check that it speaks the OpenAI protocol"
    )


def unknown(url: str, path: str) -> ServerError:
    """The error for a whole answer that is not what its address stands for."""
    return ServerError(f"{url}{path} answers something else", retryable=False, hint="check base_urls")


def lost(url: str, error: httpx.HTTPError) -> ServerError:
    """The error for a connection that failed."""
    unreachable = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
    if unreachable:
        problem, hint = f"{url} can't be reached", "check that the server runs, and base_urls"
    elif isinstance(error, httpx.TimeoutException):
        problem, hint = f"{url} said nothing for too long", "raise idle_timeout, or lower concurrency"
    else:
        problem, hint = f"the connection to {url} broke", "check the server's own log"
    return ServerError(f"{problem} ({type(error).__name__})", retryable=True, hint=hint, unreachable=unreachable)


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait by a Retry-After header: a number, or an HTTP date (RFC 9110, 10.2.3). None without either."""
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


def _said(body: bytes, key: str | None) -> str:
    """A server's own words, on one line."""
    text = body.decode(errors="replace")
    try:
        told = json.loads(text)
    except ValueError:
        told = None
    if isinstance(told, dict):
        error = told.get("error", told)
        message = error.get("message", error.get("detail")) if isinstance(error, dict) else error
        text = message if isinstance(message, str) else json.dumps(error)
    if key:
        text = text.replace(key, "***")
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 3] + "..."


def _hint(status: int, said: str) -> str:
    if status in (401, 403):
        return "set the key: in the environment (api_key_env) or as api_key"
    if status == 404:
        return "check base_urls and model"
    if status == 429:
        return "lower concurrency, or ask the server's operator for more"
    if status >= 500 or status in _PASSING:
        return "check the server's own log"
    if 300 <= status < 400:
        return "use the address that it moved to"
    if "context" in said.lower() or "max_tokens" in said:
        return "shorten the question, or lower max_tokens"
    return "the server does not take the request as it is: leave out what it names"
