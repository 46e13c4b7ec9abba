"""The host names under which a local server answers."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Return whether `host` is a loopback address or localhost."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def host_of(header: str) -> str:
    """Return the host of a Host header, without the port."""
    return header.rpartition("]")[0] + "]" if header.startswith("[") else header.partition(":")[0]
