"""Objects of the other end of the pipes between a program and its checker. `peer` answers what they ask."""

import operator
from collections.abc import Callable, Iterator
from typing import cast

_NAMES = ("__name__", "__doc__", "__qualname__")
_OPERATORS = (
    "add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor",
    "lt", "le", "gt", "ge", "eq", "ne",
)  # fmt: skip
BINARY = {
    f"__{name}__": cast("Callable[[object, object], object]", getattr(operator, f"__{name}__")) for name in _OPERATORS
}
UNARY: dict[str, Callable[..., object]] = {
    "bool": bool, "len": len, "iter": iter, "next": next, "str": str, "repr": repr, "neg": operator.neg,
    "abs": operator.abs, "getattr": getattr, "setattr": setattr, "getitem": operator.getitem,
    "setitem": operator.setitem, "enter": lambda one: one.__enter__(),
    "leave": lambda one: one.__exit__(None, None, None),
    "isinstance": lambda kind, one: isinstance(one, kind),
}  # fmt: skip


class Remote:
    """An object of the other end."""

    __slots__ = ("_ask", "_number")
    _number: int
    _ask: Callable[..., object]

    def __init__(self, ask: Callable[..., object], number: int) -> None:
        object.__setattr__(self, "_ask", ask)
        object.__setattr__(self, "_number", number)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__") and name not in _NAMES:
            raise AttributeError(name)
        return self._ask("getattr", self, name)

    def __setattr__(self, name: str, value: object) -> None:
        self._ask("setattr", self, name, value)

    def __call__(self, *arguments: object, **named: object) -> object:
        return self._ask("call", self, arguments, named)

    def __bool__(self) -> bool:
        return self._ask("bool", self) is True

    def __len__(self) -> int:
        length = self._ask("len", self)
        return length if isinstance(length, int) else 0

    def __iter__(self) -> Iterator[object]:
        return cast("Iterator[object]", self._ask("iter", self))

    def __next__(self) -> object:
        return self._ask("next", self)

    def __getitem__(self, key: object) -> object:
        return self._ask("getitem", self, key)

    def __setitem__(self, key: object, value: object) -> None:
        self._ask("setitem", self, key, value)

    def __str__(self) -> str:
        return str(self._ask("str", self))

    def __repr__(self) -> str:
        return str(self._ask("repr", self))

    def __neg__(self) -> object:
        return self._ask("neg", self)

    def __abs__(self) -> object:
        result = self._ask("abs", self)
        return result if isinstance(result, Remote) else NotImplemented

    def __enter__(self) -> object:
        return self._ask("enter", self)

    def __exit__(self, *_: object) -> None:
        self._ask("leave", self)

    def __instancecheck__(self, one: object) -> bool:
        return isinstance(one, Remote) and self._ask("isinstance", self, one) is True

    def __hash__(self) -> int:
        return hash(self._number)


def _between(name: str) -> Callable[[Remote, object], object]:
    def apply(one: Remote, other: object) -> object:
        return one._ask(name, one, other) if isinstance(other, Remote) else NotImplemented

    return apply


for _name in BINARY:
    setattr(Remote, _name, _between(_name))
