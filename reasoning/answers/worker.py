"""The process that compares expressions, fed one JSON pair a line: `[first, second]` -> `true`, `false` or `null`.

A process of its own because math-verify stops long computations with SIGALRM, which only a main
thread can take, and because some expressions (`9^{9^{9^9}}`) can only be stopped by killing.
"""

import json
import re
import sys

# What people type for what math-verify reads.
_TYPED = (
    (re.compile(r"\*\*"), "^"),
    (re.compile(r"√\s*(?:\(([^()]*)\)|(\w))"), r"\\sqrt{\1\2}"),
    (re.compile(r"²"), "^2"),
    (re.compile(r"³"), "^3"),
    (re.compile(r"(?<![\\A-Za-z])(pi|theta|alpha|beta)(?![A-Za-z])"), r"\\\1 "),
)


def main() -> None:
    """Answer pairs from standard input until it ends; `null` where there is no verdict."""
    limit_memory()
    from math_verify import parse, verify
    from math_verify.errors import TimeoutException

    print("ready", flush=True)
    for line in sys.stdin:
        pair: list[str] = json.loads(line)
        same: bool | None
        try:
            first, second = (parse(f"${_as_latex(text)}$", raise_on_error=True) for text in pair)
            # Not symmetric: only the second may be an interval where the first is "-2 < x < 3".
            same = any(verify(*ordered, raise_on_error=True) for ordered in ((first, second), (second, first)))
        except (TimeoutException, MemoryError):
            same = None
        except Exception:  # an expression that is none to the library equals no other
            same = False
        print(json.dumps(same), flush=True)


def limit_memory(most: int = 2 << 30) -> None:
    """Fail an allocation rather than take the machine's memory, where the system can limit it."""
    try:
        import resource
    except ImportError:  # not offered by this system
        return
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _as_latex(text: str) -> str:
    for typed, latex in _TYPED:
        text = typed.sub(latex, text)
    return text


if __name__ == "__main__":
    main()
