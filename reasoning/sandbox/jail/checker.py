"""Checker's end of a checked run: runs the tests on plain values that the program's process returns.

The tests, the expected values and the proof of success are in this process only.
"""

import sys
import types
from collections.abc import Sequence
from importlib import import_module

from branchwise.sandbox.jail.peer import Peer
from branchwise.sandbox.jail.values import Json

_REPLIES, _CALLS = 5, 6
_CALLABLE = (
    types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.MethodDescriptorType,
)  # fmt: skip


class ProgramFailedError(Exception):
    """The program did not reach its last line."""

    def __init__(self, word: str, text: str) -> None:
        super().__init__(text)
        self.word = word
        self.text = text


def connect(module: types.ModuleType, names: Sequence[str]) -> Peer:
    """Wait until the program ran, give the module those of `names` that it defines, and return the connection.

    Raises ProgramFailedError, EndedError if the program exited, or ValueError for a malformed message.
    """
    peer = Peer(_REPLIES, _CALLS, _may_share, guarded=True)
    kind, *parts = peer.receive()
    if kind == "failed":
        word, text = map(str, parts)
        raise ProgramFailedError(word, text)
    for part in parts:
        if not isinstance(part, list) or len(part) != 3 or part[0] not in names:
            raise ValueError("a message is malformed")
        _define(module, peer, *part)
    return peer


def _define(module: types.ModuleType, peer: Peer, name: Json, how: Json, value: Json) -> None:
    """Define a name. Modules, and members of the standard library under their own names, are this process's own."""
    assert isinstance(name, str)
    if how == "value":
        module.__dict__[name] = peer.decode(value)
    elif str(value) in sys.stdlib_module_names and (how == "member" or str(value) == name):
        found = import_module(str(value))
        module.__dict__[name] = getattr(found, name, None) if how == "member" else found


def _may_share(value: object) -> bool:
    """Return whether the program may use an object of the tests: functions, iterators and objects of their classes."""
    kind = value if isinstance(value, type) else type(value)
    return isinstance(value, _CALLABLE) or hasattr(kind, "__next__") or kind.__module__ == "program"
