"""Worker process that evaluates expressions: reads one JSON request per line, writes its fingerprint.

process.py starts and kills it. It is a separate process because some expressions (`9^{9^{9^9}}`) stop only when
killed, or take all memory.

A fingerprint is the value of an expression, or its values at fixed points of its variables: exact if they are
rational, else to 30 digits. Equal expressions have equal fingerprints. Unequal ones differ unless the points happen
to be roots of the difference, which polynomials of degree 100 have with odds below 1 in 10^5 for three points
(Schwartz 1980, Zippel 1979).
"""

import hashlib
import json
import signal
import sys
from collections.abc import Mapping
from types import FrameType
from typing import TYPE_CHECKING

from latex2sympy2_extended import latex2sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig
from sympy import (
    Derivative,
    Expr,
    Float,
    I,
    Integral,
    Limit,
    MatrixBase,
    N,
    Pow,
    Product,
    Rational,
    Sum,
    Symbol,
    UnevaluatedExpr,
    factorial,
    nan,
    sympify,
    zoo,
)
from sympy.core.function import AppliedUndef

if TYPE_CHECKING:  # an import of branchwise would double the time to start
    from branchwise.answers.process import Kind

_CONVERSION = ConversionConfig(interpret_as_mixed_fractions=False, lowercase_symbols=False)
_SIGNS = (1, 1, -1)  # of the variables at each point
_MAX_BITS = 1_000_000  # of a number; larger ones take seconds
_MAX_FACTORIAL = 10_000
_DIGITS, _WORKING_DIGITS = 30, 50
_MAX_LENGTH = 80  # characters of a number in a fingerprint; longer ones are hashed
_MEMORY = 2 << 30  # bytes
_PROCESSOR_SECONDS = 1.0


class NoFingerprintError(Exception):
    """The expression is unreadable, or has no value that can be computed."""


class _SlowError(BaseException):  # not an Exception, because sympy catches those
    """The expression takes too much time."""


def main() -> None:
    """Answer requests `[latex, kind]` with `[fingerprint]`, `[""]` without a value, `[null]` if it takes too long."""
    limit_memory()
    sys.set_int_max_str_digits(0)  # 1/2006! has 5,763 digits
    limited = hasattr(signal, "setitimer")
    if limited:
        signal.signal(signal.SIGPROF, _stop)
    print("ready", flush=True)
    for line in sys.stdin:
        latex, kind = json.loads(line)
        reply: str | None
        try:
            if limited:
                signal.setitimer(signal.ITIMER_PROF, _PROCESSOR_SECONDS)
            reply = fingerprint(latex, kind)
        except (_SlowError, MemoryError, RecursionError):
            reply = None
        except Exception:  # the parser and sympy raise anything on what they can't read
            reply = ""
        finally:
            if limited:
                signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps([reply]), flush=True)


def limit_memory() -> None:
    """Limit the address space, where the platform supports it, so that an allocation fails before memory runs out."""
    try:
        import resource
    except ImportError:  # not available on this platform
        return
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise _SlowError


def fingerprint(latex: str, kind: "Kind" = "value") -> str:
    """Return the fingerprint of an expression. Raises NoFingerprintError or an error of the parser without one."""
    tree = latex2sympy(latex, conversion_config=_CONVERSION)
    if isinstance(tree, MatrixBase):
        cells = ",".join(_of_expression(cell, kind) for cell in tree)
        return f"matrix {tree.rows}x{tree.cols} {cells}"
    return _of_expression(tree, kind)


def _of_expression(tree: Expr, kind: "Kind") -> str:
    if not isinstance(tree, Expr):
        raise NoFingerprintError
    names = sorted({symbol.name for symbol in tree.free_symbols if symbol.name != "i"})
    points = [{name: _coordinate(name, index) * sign for name in names} for index, sign in enumerate(_SIGNS)]
    values = [_evaluate(tree, point) for point in (points if names else points[:1])]
    if kind != "value":
        unit = next((value for value in values if value != 0), sympify(1))
        values = [value / (unit if kind == "equation" else abs(unit)) for value in values]
    written = list(map(_written, values))
    return written[0] if len(set(written)) == 1 else " ".join(written)


def _coordinate(name: str, index: int) -> Rational:
    """Return the variable's value at a point, between 1 and 10."""
    return Rational(1009 + int(hashlib.sha256(f"{name} {index}".encode()).hexdigest()[:8], 16) % 9081, 1009)


def _evaluate(node: Expr, point: Mapping[str, Rational]) -> Expr:
    """Return the value of a parsed tree at a point. The parser leaves most of the tree unevaluated."""
    if isinstance(node, Symbol):
        return I if node.name == "i" else point.get(node.name, node)
    if isinstance(node, UnevaluatedExpr):
        return _evaluate(node.args[0], point)
    if isinstance(node, Sum | Product | Integral | Limit):
        solved = node.func(_evaluate(node.args[0], {}), *node.args[1:]).doit()
        if isinstance(solved, type(node)):
            raise NoFingerprintError
        return _evaluate(solved, point)
    if isinstance(node, Derivative):
        return _coordinate(str(node), 0)
    args = [_evaluate(arg, point) for arg in node.args]
    if isinstance(node, AppliedUndef):  # "f(2)" is a value of its own
        return _coordinate(f"{node.func.__name__}({','.join(map(_written, args))})", 0)
    _check_size(node, args)
    return node.func(*args) if args else node


def _check_size(node: Expr, args: list[Expr]) -> None:
    """Raise NoFingerprintError for a number of too many digits."""
    if isinstance(node, Pow) and args[0].is_Rational and args[1].is_Integer:
        bits = max(abs(args[0].p), args[0].q).bit_length()
        if bits > 1 and abs(int(args[1])) * bits > _MAX_BITS:
            raise NoFingerprintError
    if isinstance(node, factorial) and args[0].is_Integer and args[0] > _MAX_FACTORIAL:
        raise NoFingerprintError


def _written(value: Expr) -> str:
    """Return a value as text that is the same for equal values."""
    if value in (zoo, nan):
        raise NoFingerprintError
    if value.is_Rational or not value.is_number or value.is_infinite is True:
        text = str(value)  # also for what has no number, such as an integral that can't be solved
        return text if len(text) <= _MAX_LENGTH else hashlib.sha256(text.encode()).hexdigest()
    near = N(value, _WORKING_DIGITS)
    real, imaginary = near.as_real_imag()
    if not all(isinstance(part, Float) or part == 0 for part in (real, imaginary)):
        raise NoFingerprintError
    if not _is_zero(imaginary):
        return f"{_rounded(real, near)}+{_rounded(imaginary, near)}i"
    close = Rational(str(real)).limit_denominator(10**8)
    if abs(real - close) > abs(real) * Float(f"1e-{_WORKING_DIGITS - 10}", _WORKING_DIGITS):
        return str(N(real, _DIGITS))
    rest = N(value - close, _DIGITS).as_real_imag()[0]  # computed to relative accuracy, however small
    return str(close) if _is_zero(rest) else f"{close} and {N(rest, _DIGITS // 2)}"


def _is_zero(part: Expr) -> bool:
    """Return True for zero. sympy marks a sum that cancels with a precision of one bit."""
    return bool(part == 0) or (isinstance(part, Float) and part._prec == 1)


def _rounded(part: Expr, whole: Expr) -> str:
    """Return a part of a complex number, rounded relative to the size of the whole."""
    if _is_zero(part):
        return "0"
    return str(N(part, _DIGITS)) if abs(part) > abs(whole) * Float("1e-15") else str(N(part, _DIGITS // 2))


if __name__ == "__main__":
    main()
