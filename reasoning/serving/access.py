"""API keys and their owners."""

import hashlib
import hmac
import re
from collections.abc import Mapping

from branchwise.core.errors import require
from branchwise.serving.clients import Client


class APIKeys:
    """The accepted API keys. They are stored as digests and never shown."""

    def __init__(self, keys: Mapping[str, Client]) -> None:
        """Set the owner of each key. Raises ConfigError if there is no key or an empty one."""
        require(bool(keys) and all(keys), "api_key", "is empty", "give at least one key")
        self._clients = {_digest(key): client for key, client in keys.items()}

    @classmethod
    def parse(cls, text: str) -> "APIKeys | None":
        """Return the keys in a text, separated by commas or white space; None without a key."""
        keys = [key for key in re.split(r"[,\s]+", text) if key]
        return cls({key: Client(f"key {number}") for number, key in enumerate(keys, 1)}) if keys else None

    def accept(self, authorization: str | None) -> Client | None:
        """Return the owner of the key in an Authorization header, in constant time for all keys; None without one."""
        scheme, _, given = (authorization or "").partition(" ")
        digest = _digest(given.strip())
        owners = [client for known, client in self._clients.items() if hmac.compare_digest(digest, known)]
        return owners[0] if owners and scheme.lower() == "bearer" else None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
