"""The address, keys and log of a command that serves HTTP: checked before a model is loaded."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from branchwise.core.errors import require
from branchwise.observability.logs import Format
from branchwise.serving.hosts import is_loopback

if TYPE_CHECKING:
    from branchwise.serving.access import APIKeys
    from branchwise.serving.key_file import KeyFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Address, keys and log of a command that listens. The fields are the options of the same names."""

    host: str
    port: int
    api_key_env: str
    no_auth: bool
    keys_file: Path | None
    drain_seconds: float
    log_format: str

    @property
    def local_only(self) -> bool:
        """True if only programs of this machine may send requests without a key."""
        return is_loopback(self.host) and not self.no_auth

    @property
    def format(self) -> Format:
        """Return the format of the log. Raises ConfigError for an unknown one."""
        if self.log_format == "json":
            return "json"
        require(self.log_format == "text", "log_format", f"is {self.log_format!r}", "use text or json")
        return "text"

    def check(self) -> "APIKeys | KeyFile | None":
        """Return the accepted API keys; None if requests need none.

        Raises ConfigError for an invalid option, or if other machines could send requests without a key although
        `no_auth` does not allow it.
        """
        require(self.drain_seconds >= 0, "drain_seconds", f"is {self.drain_seconds:g}", "use 0 or more")
        require(0 <= self.port <= 65_535, "port", f"is {self.port}", "use 0 to 65535")
        keys = self._read_keys()
        _ = self.format
        return keys

    def listen(self) -> socket.socket:
        """Return a socket that is bound to the address. Raises ConfigError if it is not available."""
        import branchwise.serving.app  # noqa: F401  # a missing package is better known before the model is loaded
        from branchwise.serving.server import listen  # needs the extra `server`

        return listen(self.host, self.port)

    def url(self, listener: socket.socket, path: str) -> str:
        """Return the URL of a path at the address that the socket is bound to."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{listener.getsockname()[1]}{path}"

    def _read_keys(self) -> "APIKeys | KeyFile | None":
        from branchwise.serving.access import APIKeys  # needs the extra `server`
        from branchwise.serving.key_file import KeyFile

        variable = self.api_key_env
        keys = APIKeys.parse(os.environ.get(variable, ""))
        if self.keys_file is not None:
            require(not self.no_auth, "no_auth", "is set together with a file of keys", "leave one of them out")
            require(keys is None, "keys_file", f"is given, but {variable} has keys", "use one of them")
            return KeyFile(self.keys_file)
        if self.no_auth:
            require(keys is None, "no_auth", f"is set, but {variable} has keys", "unset it, or leave --no-auth out")
            return None
        require(
            keys is not None or is_loopback(self.host),
            "host",
            f"{self.host} can be reached from other machines, and {variable} has no API key",
            f"set {variable}, or accept requests without a key by --no-auth",
        )
        return keys
