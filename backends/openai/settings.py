"""How an OpenAI-compatible server is reached."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pydantic import JsonValue

from branchwise.core.errors import require

# Requests are built around these: another value in extra_body would make replies unreadable.
_OURS = frozenset({"model", "messages", "prompt", "stream", "stream_options", "n", "echo", "return_token_ids"})


@dataclass(frozen=True, slots=True)
class OpenAISettings:
    """Where the server is, and how patiently it is asked.

    Start vLLM with `--enable-prompt-tokens-details`: it then tells how much of every prompt it had computed before.
    """

    base_urls: tuple[str, ...]
    """One address, or one for each replica of the same model; with or without /v1."""
    model: str | None = None
    """The model's name there; None: the only one it lists."""
    api_key: str | None = field(default=None, repr=False)
    """The key; None takes it from the environment."""
    api_key_env: str = "OPENAI_API_KEY"
    """The variable the key is in; servers that ask for none may go without."""
    connect_timeout: float = 10.0
    """Seconds to wait for a connection."""
    idle_timeout: float = 120.0
    """Seconds to wait for more of an answer, its first token included."""
    retries: int = 5
    """How often a request that failed before its first token is made again."""
    retry_seconds: float = 60.0
    """Seconds after which no further attempt starts, the pauses that servers ask for included."""
    concurrency: int = 64
    """Most branches under way at once, in each event loop."""
    context: int | None = None
    """Most tokens of a path, prompt included; None: what the server tells."""
    extra_body: Mapping[str, JsonValue] = field(default_factory=dict)
    """Keys of the server's own that go into every request that generates."""
    tokens: str = "auto"
    """auto: paths are continued by their tokens where the server shows and takes them; off: by their text."""

    def __post_init__(self) -> None:
        require(
            not isinstance(self.base_urls, str), "base_urls", "is a bare string", "use a tuple, such as ('http://...',)"
        )
        require(bool(self.base_urls), "base_urls", "are none", "name at least one server")
        for url in self.base_urls:
            _check_url(url)
        urls = self.urls
        require(len(set(urls)) == len(urls), "base_urls", "hold one address twice", "name each replica once")
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
        ours = sorted(_OURS & set(self.extra_body))
        require(not ours, "extra_body", f"holds {', '.join(ours)}", "leave that out: branchwise sets it")
        require(self.tokens in ("auto", "off"), "tokens", f"is {self.tokens!r}", "use auto or off")

    @property
    def urls(self) -> tuple[str, ...]:
        """The addresses, without /v1."""
        return tuple(url.rstrip("/").removesuffix("/v1").rstrip("/") for url in self.base_urls)

    def key(self) -> str | None:
        """The key to send."""
        return self.api_key or os.environ.get(self.api_key_env) or None


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    require(
        parts.scheme in ("http", "https") and bool(parts.hostname),
        "base_urls", f"hold {url if '@' not in url else 'an address'!r}", "use http://host:port or https://host",
    )  # fmt: skip
    # An address is shown in errors.
    require(
        parts.username is None and parts.password is None,
        "base_urls", "hold a user or a password", "put the key into the environment, or into api_key",
    )  # fmt: skip
    require(not parts.query and not parts.fragment, "base_urls", "hold a query", "use http://host:port/path")
