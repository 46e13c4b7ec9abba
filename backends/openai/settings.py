"""Settings of the backend for OpenAI-compatible servers."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pydantic import JsonValue

from branchwise.core.errors import require

# Fields that the backend sets itself: another value would make its responses unreadable.
_RESERVED = frozenset({"model", "messages", "prompt", "stream", "stream_options", "n", "echo", "return_token_ids"})


@dataclass(frozen=True, slots=True)
class OpenAISettings:
    """Addresses of a server, and the limits of requests to it.

    Start vLLM with `--enable-prompt-tokens-details`, so that it reports the cached part of every prompt.
    """

    base_urls: tuple[str, ...]
    """One address, or one for each replica of the same model; with or without /v1."""
    model: str | None = None
    """The model's name on the server; None: the only one that the server lists."""
    api_key: str | None = field(default=None, repr=False)
    """The key; None takes it from the environment."""
    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable with the key; it may be unset for servers without authentication."""
    connect_timeout: float = 10.0
    """Seconds to wait for a connection."""
    idle_timeout: float = 120.0
    """Seconds to wait for the first token, and between tokens."""
    retries: int = 5
    """Most repetitions of a request that failed before its first token."""
    retry_seconds: float = 60.0
    """Seconds after which no further attempt starts, including the pauses that servers request."""
    concurrency: int = 64
    """Most branches that run at once, in each event loop."""
    context: int | None = None
    """Most tokens of a path, prompt included; None: the context length that the server reports."""
    extra_body: Mapping[str, JsonValue] = field(default_factory=dict)
    """Further fields of every request that samples."""
    tokens: str = "auto"
    """auto: paths are continued by token ids if the server supports it; off: by text."""

    def __post_init__(self) -> None:
        require(
            not isinstance(self.base_urls, str), "base_urls", "is a bare string", "use a tuple, such as ('http://...',)"
        )
        require(bool(self.base_urls), "base_urls", "is empty", "name at least one server")
        for url in self.base_urls:
            _check_url(url)
        urls = self.urls
        require(len(set(urls)) == len(urls), "base_urls", "contains an address twice", "name each replica once")
        require(self.model != "", "model", "is empty", "use a name, or None for the only one there")
        require(self.api_key != "", "api_key", "is empty", "leave it out")
        for name in ("connect_timeout", "idle_timeout", "retry_seconds"):
            seconds = getattr(self, name)
            require(math.isfinite(seconds) and seconds > 0, name, f"is {seconds}", "use a positive number of seconds")
        require(self.retries >= 0, "retries", f"is {self.retries}", "use 0 or more")
        require(self.concurrency >= 1, "concurrency", f"is {self.concurrency}", "use at least 1")
        require(
            self.context is None or self.context > 1,
            "context",
            f"is {self.context}",
            "use the model's, or leave it out",
        )
        reserved = sorted(_RESERVED & set(self.extra_body))
        require(not reserved, "extra_body", f"contains {', '.join(reserved)}", "leave that out: branchwise sets it")
        require(self.tokens in ("auto", "off"), "tokens", f"is {self.tokens!r}", "use auto or off")

    @property
    def urls(self) -> tuple[str, ...]:
        """Addresses without /v1."""
        return tuple(url.rstrip("/").removesuffix("/v1").rstrip("/") for url in self.base_urls)

    def key(self) -> str | None:
        """Return the key to send, or None."""
        return self.api_key or os.environ.get(self.api_key_env) or None


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    require(
        parts.scheme in ("http", "https") and bool(parts.hostname),
        "base_urls",
        f"contains {url if '@' not in url else 'an invalid address'!r}",
        "use http://host:port or https://host",
    )
    # Errors show addresses, so they must not contain credentials.
    require(
        parts.username is None and parts.password is None,
        "base_urls",
        "contains a user or a password",
        "put the key into the environment, or into api_key",
    )
    require(not parts.query and not parts.fragment, "base_urls", "contains a query", "use http://host:port/path")
