"""One end of the pipes between a program and its checker, each of which calls the other's functions.

Plain data is copied (`values`). Any other object stays where it is, and the other end gets a `Remote` that asks for
each operation. A Remote never equals plain data, and computes only with other objects of its end: the program learns no
expected value, and no method of its objects decides a comparison with one.
"""

import io
import json
import sys
import traceback
import types
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import cast

from branchwise.sandbox.jail.remote import BINARY, UNARY, Remote
from branchwise.sandbox.jail.values import Json, decode, encode

_LONGEST = 1 << 26  # bytes of a message
_FRAMES = 8


class EndedError(BaseException):
    """The other end closed its pipe."""


class Peer:
    """One end: sends requests, and answers those of the other end meanwhile."""

    def __init__(self, reads: int, writes: int, may_share: Callable[[object], bool], *, guarded: bool = False) -> None:
        self._reader = open(reads, "rb", closefd=False)  # noqa: SIM115 (open as long as the process)
        self._writer = open(writes, "wb", closefd=False)  # noqa: SIM115
        self._may_share = may_share
        self._guarded = guarded  # the other end gets no private attributes and changes no classes
        self._objects: list[object] = []
        self._numbers: dict[int, int] = {}  # by id
        self._classes: dict[str, type[BaseException]] = {}
        self.ended = False  # the other end closed its pipe

    def send(self, message: list[Json]) -> None:
        """Send a message. Raises EndedError."""
        try:
            self._writer.write(json.dumps(message).encode() + b"\n")
            self._writer.flush()
        except OSError:
            self.ended = True
            raise EndedError from None

    def receive(self) -> list[Json]:
        """Return the next message. Raises EndedError, or ValueError if it is malformed."""
        line = self._reader.readline(_LONGEST)
        if not line.endswith(b"\n"):
            self.ended = True
            raise EndedError
        message = json.loads(line)
        if not isinstance(message, list) or not message:
            raise ValueError("a message is malformed")
        return cast("list[Json]", message)

    def ask(self, operation: str, *arguments: object) -> object:
        """Return the result of an operation at the other end, or raise its exception.

        StopIteration becomes a RuntimeError unless an iterator raises it: it would end a loop over several calls early.
        """
        self.send(["ask", operation, *map(self.encode, arguments)])
        while True:
            kind, *parts = self.receive()
            if kind == "ask":
                self.answer(parts)
                continue
            printed, *parts = parts
            if printed and sys.stdout is not sys.__stdout__:
                sys.stdout.write(str(printed))
            if kind != "value":
                error = self._error(parts)
                if isinstance(error, StopIteration) and operation != "next":
                    raise RuntimeError("the program raised StopIteration") from error
                raise error
            result, changed = parts
            if operation == "call" and isinstance(changed, list):
                _update(cast("tuple[object, ...]", arguments[1]), cast("list[object]", self.decode(changed)))
            return self.decode(result)

    def serve(self) -> None:
        """Answer requests until the other end closes its pipe."""
        try:
            while True:
                _, *parts = self.receive()
                self.answer(parts)
        except EndedError:
            pass

    def answer(self, request: list[Json]) -> None:
        """Perform an operation and send its result or exception."""
        operation, *parts = request
        output = _Copied()
        try:
            with redirect_stdout(output):
                receiver, *arguments = map(self.decode, parts)
                result, changed = self._perform(str(operation), receiver, arguments, parts)
            reply: list[Json] = ["value", output.getvalue(), result, changed]
        except EndedError:
            raise
        except BaseException as error:
            reply = ["raise", output.getvalue(), *_described(error, self.encode)]
        self.send(reply)

    def _perform(
        self, operation: str, receiver: object, arguments: list[object], sent: list[Json]
    ) -> tuple[Json, Json]:
        if not _is_ours(sent[0]) or not self._may_share(receiver):
            raise TypeError("the object is not accessible")
        if self._guarded and operation in ("getattr", "setattr"):
            constant = operation == "setattr" and isinstance(receiver, type | types.FunctionType)
            if constant or str(arguments[0]).startswith("_"):
                raise AttributeError(str(arguments[0]))
        if operation == "call":
            positional, named = arguments
            assert isinstance(positional, tuple)
            result = cast("Callable[..., object]", receiver)(*positional, **cast("dict[str, object]", named))
            after = self.encode(list(positional)) if any(isinstance(one, _MUTABLE) for one in positional) else None
            unchanged = after is None or cast("list[Json]", after)[1:] == cast("list[Json]", sent[1])[1:]
            return self.encode(result), None if unchanged else after
        return self.encode((BINARY.get(operation) or UNARY[operation])(receiver, *arguments)), None

    def encode(self, value: object) -> Json:
        """Return a value as JSON. Raises TypeError if an object may not be shared."""
        try:
            return encode(value, self._share)
        except RecursionError:
            raise TypeError("the value is nested too deeply") from None

    def decode(self, value: Json) -> object:
        """Return the value of its JSON. Raises ValueError or TypeError."""
        return decode(value, self._shared)

    def _share(self, value: object) -> Json:
        if isinstance(value, Remote):
            return ["yours", value._number]
        if not self._may_share(value):
            raise TypeError(f"{type(value).__name__} objects cannot be passed between a program and its tests")
        number = self._numbers.setdefault(id(value), len(self._objects))
        if number == len(self._objects):
            self._objects.append(value)
        if isinstance(value, type) and issubclass(value, BaseException):
            return ["error", *_class_names(value)]
        return ["mine", number]

    def _shared(self, value: list[Json]) -> object:
        tag, *parts = value
        if tag == "error":
            return self._error_class(str(parts[0]), str(parts[1]), str(parts[2]))
        number = parts[0]
        if not isinstance(number, int) or tag not in ("mine", "yours"):
            raise ValueError("a value is malformed")
        return Remote(self.ask, number) if tag == "mine" else self._objects[number]

    def _error_class(self, name: str, module: str, base: str) -> type[BaseException]:
        """Return the class of the standard library, or one made here once for a class of the program."""
        if module.partition(".")[0] not in sys.stdlib_module_names:
            module = "builtins"
        __import__(module)
        found = getattr(sys.modules[module], base, None)
        known = found if isinstance(found, type) and issubclass(found, BaseException) else Exception
        if name == base:
            return known
        if name not in self._classes:
            self._classes[name] = type(name, (known,), {"__module__": "program"})
        return self._classes[name]

    def _error(self, parts: list[Json]) -> BaseException:
        name, module, base, arguments, text = parts
        kind = self._error_class(str(name), str(module), str(base))
        error = kind.__new__(kind, *cast("tuple[object, ...]", self.decode(arguments)))
        error.__dict__["program_trace"] = str(text)
        return error


_MUTABLE = (list, dict, set, bytearray)


def _is_ours(receiver: Json) -> bool:
    """Return whether JSON is an object that was shared, not a value such as a type, which could make objects here."""
    return isinstance(receiver, list) and receiver[:1] == ["yours"]


class _Copied(io.StringIO):
    """Output that also goes to the process's standard output, whose size is limited."""

    def write(self, text: str) -> int:
        if sys.__stdout__ is not None:
            sys.__stdout__.write(text)
        return super().write(text)


def _update(arguments: tuple[object, ...], changed: list[object]) -> None:
    """Change arguments as the function that got copies of them did."""
    for one, new in zip(arguments, changed, strict=True):
        if isinstance(one, list) and isinstance(new, list):  # noqa: SIM114 (each branch has its type)
            one[:] = new
        elif isinstance(one, bytearray) and isinstance(new, bytearray):
            one[:] = new
        elif isinstance(one, dict) and isinstance(new, dict):  # noqa: SIM114
            one.clear()
            one.update(new)
        elif isinstance(one, set) and isinstance(new, set):
            one.clear()
            one.update(new)


def _class_names(kind: type[BaseException]) -> tuple[str, str, str]:
    """Return the class's name, and the module and name of its first base class in the standard library."""
    base = next(one for one in kind.__mro__ if one.__module__.partition(".")[0] in sys.stdlib_module_names)
    return kind.__name__, base.__module__, base.__name__


def _described(error: BaseException, encoded: Callable[[object], Json]) -> list[Json]:
    try:
        arguments = encoded(error.args)
    except Exception:
        arguments = ["tuple"]
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__, limit=-_FRAMES))
    return [*_class_names(type(error)), arguments, text]
