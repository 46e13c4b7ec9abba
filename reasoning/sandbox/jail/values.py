"""Values between a program and its checker: plain data by copy, other objects by number. `peer` sends them.

Nothing of a value's own code runs where it is decoded: a subclass of a plain type arrives as the plain type.
"""

import collections
import datetime
import decimal
import fractions
import sys
from collections.abc import Callable
from typing import cast

Json = None | bool | int | float | str | list["Json"]

_SCALARS = (bool, float, str)
_NUMBER_BITS = 64  # longer integers are sent in hexadecimal, which has no limit of digits
_COLLECTIONS: dict[str, Callable[[list[object]], object]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": collections.deque,
}
_MAPPINGS: dict[str, Callable[[], dict[object, object]]] = {
    "dict": dict,
    "OrderedDict": collections.OrderedDict,
    "Counter": lambda: cast("dict[object, object]", collections.Counter()),
    "defaultdict": collections.defaultdict,
}
_READERS: dict[str, Callable[[str], object]] = {
    "int": lambda text: int(text, 16),
    "bytes": lambda text: text.encode("latin-1"),
    "bytearray": lambda text: bytearray(text, "latin-1"),
    "Decimal": decimal.Decimal,
    "Fraction": fractions.Fraction,
    "date": datetime.date.fromisoformat,
    "datetime": datetime.datetime.fromisoformat,
    "time": datetime.time.fromisoformat,
}
_WRITERS: dict[type, Callable[[object], str]] = {
    decimal.Decimal: str,
    fractions.Fraction: str,
    datetime.date: str,
    datetime.datetime: lambda value: str(value).replace(" ", "T"),
    datetime.time: str,
}
_BUILTINS = {name: value for name, value in vars(sys.modules["builtins"]).items() if isinstance(value, type)}


def encode(value: object, share: Callable[[object], Json]) -> Json:
    """Return a value as JSON; `share` returns the JSON of an object that is not plain data."""
    kind = type(value)
    if value is None or kind in _SCALARS:
        return value  # type: ignore[return-value]
    if isinstance(value, int):
        number = int(value)
        return number if number.bit_length() < _NUMBER_BITS else ["int", hex(number)]
    if isinstance(value, float | str):
        return float(value) if isinstance(value, float) else str.__str__(value)
    if isinstance(value, bytes | bytearray):
        return ["bytes" if isinstance(value, bytes) else "bytearray", value.decode("latin-1")]
    if isinstance(value, complex):
        return ["complex", value.real, value.imag]
    if kind is range:
        assert isinstance(value, range)
        return ["range", *(encode(bound, share) for bound in (value.start, value.stop, value.step))]
    if kind in _WRITERS:
        return [kind.__name__, _WRITERS[kind](value)]
    if isinstance(value, datetime.timedelta):
        return ["timedelta", value.days, value.seconds, value.microseconds]
    if isinstance(value, type) and _BUILTINS.get(value.__name__) is value:
        return ["type", value.__name__]
    return _encode_items(value, share)


def _encode_items(value: object, share: Callable[[object], Json]) -> Json:
    if isinstance(value, dict):
        name = next(base.__name__ for base in type(value).__mro__ if base.__name__ in _MAPPINGS)
        return [name, *(encode(part, share) for item in dict.items(value) for part in item)]
    if not isinstance(value, list | tuple | set | frozenset | collections.deque):
        return share(value)
    items = [encode(item, share) for item in value]
    fields = getattr(value, "_fields", None)
    if isinstance(value, tuple) and isinstance(fields, tuple):
        return ["record", type(value).__name__, encode(list(fields), share), *items]
    name = next(base.__name__ for base in type(value).__mro__ if base.__name__ in _COLLECTIONS)
    return [name, *items]


def decode(value: Json, shared: Callable[[list[Json]], object]) -> object:
    """Return the value of its JSON; `shared` returns the object of a JSON that `share` made.

    Raises ValueError or TypeError if it is malformed.
    """
    if not isinstance(value, list):
        if isinstance(value, dict):
            raise ValueError("a value is malformed")
        return value
    tag, *parts = value
    if not isinstance(tag, str):
        raise ValueError("a value is malformed")
    if tag in _COLLECTIONS:
        return _COLLECTIONS[tag]([decode(part, shared) for part in parts])
    if tag in _MAPPINGS:
        found = _MAPPINGS[tag]()
        items = [decode(part, shared) for part in parts]
        for key, item in zip(items[::2], items[1::2], strict=True):
            found[key] = item
        return found
    if tag in _READERS:
        (text,) = parts
        if not isinstance(text, str):
            raise ValueError("a value is malformed")
        return _READERS[tag](text)
    return _decode_other(tag, parts, shared)


def _decode_other(tag: str, parts: list[Json], shared: Callable[[list[Json]], object]) -> object:
    if tag == "complex":
        real, imaginary = parts
        return complex(float(str(real)), float(str(imaginary)))
    if tag in ("range", "timedelta"):
        first, second, third = (int(str(decode(part, shared))) for part in parts)
        return range(first, second, third) if tag == "range" else datetime.timedelta(first, second, third)
    if tag == "type":
        return _BUILTINS[str(parts[0])]
    if tag == "record":
        name, fields, *items = (decode(part, shared) for part in parts)
        assert isinstance(fields, list)
        record = collections.namedtuple(str(name), [str(field) for field in fields], rename=True)  # type: ignore[misc]
        return record(*items)
    return shared([tag, *parts])
