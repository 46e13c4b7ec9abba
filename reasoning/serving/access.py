"""Access control: API keys, and the host names under which a local server answers."""

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Sequence

from branchwise.core.errors import require


class APIKeys:
    """The accepted API keys. They are stored as digests and never shown."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Raises ConfigError if there is no key or an empty one."""
        require(bool(keys) and all(keys), "api_key", "is empty", "give at least one key")
        self._digests = [_digest(key) for key in keys]

    @classmethod
    def parse(cls, text: str) -> "APIKeys | None":
        """Return the keys in a text, separated by commas or white space; None without a key."""
        keys = [key for key in re.split(r"[,\s]+", text) if key]
        return cls(keys) if keys else None

    def accept(self, authorization: str | None) -> bool:
        """Return whether an Authorization header has an accepted key, in constant time for all keys."""
        scheme, _, given = (authorization or "").partition(" ")
        digest = _digest(given.strip())
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(matches) and scheme.lower() == "bearer"


def is_loopback(host: str) -> bool:
    """Return whether `host` is a loopback address or localhost."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def host_of(header: str) -> str:
    """Return the host of a Host header, without the port."""
    return header.rpartition("]")[0] + "]" if header.startswith("[") else header.partition(":")[0]


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
