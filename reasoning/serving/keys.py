"""Who may ask: API keys, and which hosts a server is asked as."""

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Sequence

from branchwise.core.errors import require


class Keys:
    """The API keys that are accepted. They are kept as digests, and shown nowhere."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Raises ConfigError where there are none."""
        require(bool(keys) and all(keys), "api_key", "is empty", "give at least one key")
        self._digests = [_digest(key) for key in keys]

    @classmethod
    def parse(cls, text: str) -> "Keys | None":
        """One or several keys, separated by commas or white space; None where there are none."""
        keys = [key for key in re.split(r"[,\s]+", text) if key]
        return cls(keys) if keys else None

    def accept(self, authorization: str | None) -> bool:
        """Whether an Authorization header has one of them; it takes equally long whichever it is, or none."""
        scheme, _, given = (authorization or "").partition(" ")
        digest = _digest(given.strip())
        found = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(found) and scheme.lower() == "bearer"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, and reached from it alone; of names, localhost is."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def host_of(header: str) -> str:
    """The host in a Host header, without its port."""
    return header.rpartition("]")[0] + "]" if header.startswith("[") else header.partition(":")[0]


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
