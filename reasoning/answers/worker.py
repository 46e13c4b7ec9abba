"""The process that compares expressions, fed one JSON pair a line: `[first, second]` -> `true` or `false`.

A process of its own because math-verify stops long computations with SIGALRM, which only a main
thread can take, and because some expressions (`9^{9^{9^9}}`) can only be stopped by killing.
"""

import json
import sys


def main() -> None:
    """Answer pairs from standard input until it ends."""
    limit_memory()
    from math_verify import parse, verify
    from math_verify.errors import TimeoutException

    print("ready", flush=True)
    for line in sys.stdin:
        first, second = json.loads(line)
        try:
            same = verify(parse(f"${first}$"), parse(f"${second}$"))
        except (TimeoutException, ValueError, TypeError, AttributeError, RecursionError, MemoryError):
            same = False
        print(json.dumps(bool(same)), flush=True)


def limit_memory(most: int = 2 << 30) -> None:
    """Fail an allocation rather than take the machine's memory, where the system can limit it."""
    try:
        import resource
    except ImportError:  # not offered by this system
        return
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    main()
