"""Worker process that compares expressions: reads one JSON pair per line, writes `true`, `false` or `null`.

process.py starts and kills it. It is a separate process because math-verify interrupts long computations with
SIGALRM, which only a main thread can receive, and because some expressions (`9^{9^{9^9}}`) stop only when killed.
"""

import json
import re
import sys

# Typed notation, and the LaTeX that math-verify reads.
_TYPED = (
    (re.compile(r"\*\*"), "^"),
    (re.compile(r"√\s*(?:\(([^()]*)\)|(\w))"), r"\\sqrt{\1\2}"),
    (re.compile(r"²"), "^2"),
    (re.compile(r"³"), "^3"),
    (re.compile(r"(?<![\\A-Za-z])(pi|theta|alpha|beta)(?![A-Za-z])"), r"\\\1 "),
)


def main() -> None:
    """Answer pairs from standard input until it ends; `null` means no verdict."""
    limit_memory()
    from math_verify import parse, verify
    from math_verify.errors import TimeoutException

    print("ready", flush=True)
    for line in sys.stdin:
        pair: list[str] = json.loads(line)
        same: bool | None
        try:
            first, second = (parse(f"${_as_latex(text)}$", raise_on_error=True) for text in pair)
            # `verify` is not symmetric: it accepts an interval for "-2 < x < 3" only as the second argument.
            same = any(verify(*ordered, raise_on_error=True) for ordered in ((first, second), (second, first)))
        except (TimeoutException, MemoryError):
            same = None
        except Exception:  # an expression that the library cannot read equals no other
            same = False
        print(json.dumps(same), flush=True)


def limit_memory(max_bytes: int = 2 << 30) -> None:
    """Limit the address space, where the platform supports it, so that an allocation fails before memory runs out."""
    try:
        import resource
    except ImportError:  # not available on this platform
        return
    resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))


def _as_latex(text: str) -> str:
    for typed, latex in _TYPED:
        text = typed.sub(latex, text)
    return text


if __name__ == "__main__":
    main()
