"""Program's end of a checked run: runs the program, then answers the checker's calls of its functions."""

import types
from collections.abc import Callable, Sequence

from branchwise.sandbox.jail.peer import Peer
from branchwise.sandbox.jail.values import Json


def serve(run: Callable[[], tuple[str, bytes] | None], module: types.ModuleType, names: Sequence[str]) -> None:
    """Run the program, send the names that the tests use, or its failure, and answer calls.

    `run` returns the kind and text of a failure, or None.
    """
    peer = Peer(3, 4, lambda _: True)
    failure = run()
    if failure is not None:
        peer.send(["failed", failure[0], failure[1].decode(errors="replace")])
        return
    peer.send(["ran", *(_named(peer, name, module.__dict__[name]) for name in names if name in module.__dict__)])
    peer.serve()


def _named(peer: Peer, name: str, value: object) -> Json:
    """Return a name and its value; what comes from the standard library is only named."""
    if isinstance(value, types.ModuleType):
        return [name, "module", str(value.__name__)]
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType) and value.__module__ != "program":
        return [name, "member", str(value.__module__)]
    return [name, "value", peer.encode(value)]
