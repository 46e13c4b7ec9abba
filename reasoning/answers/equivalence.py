"""Equivalence of mathematical answers: numbers are compared exactly, words as text, the rest by math-verify."""

import atexit
import re
import threading

from branchwise.answers.numbers import clean, read_number
from branchwise.answers.process import WorkerProcess
from branchwise.answers.units import MATHEMATICAL, is_unit

_MAX_VERDICTS = 10_000  # cached
_MAX_ATTEMPTS = 2  # for a pair without a verdict, as each attempt takes the whole time limit
_MAX_LENGTH = 1_000  # characters; longer answers are compared as text
_COMMANDS = re.compile(r"\\(?:begin|end|operatorname|mathbb|mathcal)\s*\{\w+\*?\}|\\[A-Za-z]+")


class Equivalence:
    """Comparison of answers, with one worker process that starts on first use. Thread-safe."""

    def __init__(self, seconds: float = 5.0) -> None:
        """Set the time limit for one pair; a pair that exceeds it counts as different."""
        self._seconds = seconds
        self._lock = threading.Lock()
        self._worker = WorkerProcess()
        self._verdicts: dict[tuple[str, str], bool] = {}
        self._attempts: dict[tuple[str, str], int] = {}  # of pairs without a verdict
        atexit.register(self.close)

    def same(self, first: str, second: str) -> bool:
        """Return True if two answers are equivalent, False if they differ or the comparison times out.

        The call blocks, so run it outside the event loop.
        """
        if first == second:
            return True
        numbers = (read_number(first), read_number(second))
        if None not in numbers:
            return numbers[0] == numbers[1]
        first, second = _without_unit(clean(first)), _without_unit(clean(second))
        if first == second:
            return True
        if _are_words(first, second):
            return first.casefold() == second.casefold()
        if max(len(first), len(second)) > _MAX_LENGTH:
            return False
        pair = (min(first, second), max(first, second))
        verdict = self._verdicts.get(pair)
        if verdict is None:
            with self._lock:
                verdict = self._compare(pair)
        return verdict is True

    def close(self) -> None:
        """Stop the worker process."""
        with self._lock:
            self._worker.stop()

    def _compare(self, pair: tuple[str, str]) -> bool | None:
        """Return the verdict on a pair and cache it. A pair without a verdict is tried again, up to a limit."""
        if pair in self._verdicts or self._attempts.get(pair, 0) >= _MAX_ATTEMPTS:
            return self._verdicts.get(pair)
        verdict = self._worker.compare(pair, self._seconds)
        if verdict is None:
            self._attempts[pair] = self._attempts.get(pair, 0) + 1
            _drop_oldest(self._attempts)
        else:
            self._verdicts[pair] = verdict
            _drop_oldest(self._verdicts)
        return verdict


def _without_unit(text: str) -> str:
    """Remove the units: "3\\pi square units" becomes "3\\pi". Single letters stay because they may be variables."""
    measured = re.fullmatch(r"(?P<value>.*[\d\\].*?)\s+(?P<unit>[A-Za-z]{2,}(?:[\s/^]+(?:[A-Za-z]{2,}|\d))*)", text)
    if measured is None or re.search(r"[A-Za-z]{2}", _COMMANDS.sub(" ", measured["value"])):
        return text  # "2 hours and 30 minutes"
    return measured["value"] if is_unit(measured["unit"], apart=True) else text


def _are_words(first: str, second: str) -> bool:
    """Return True for words; math-verify would read "listen" as a product that equals "silent"."""
    if all(re.fullmatch(r"[A-Za-z]{2,}", text) for text in (first, second)):
        return True
    words = re.findall(r"[A-Za-z]{4,}", _COMMANDS.sub(" ", f"{first} {second}"))
    return any(not MATHEMATICAL.fullmatch(word) for word in words)


def _drop_oldest(cache: dict[tuple[str, str], bool] | dict[tuple[str, str], int]) -> None:
    while len(cache) > _MAX_VERDICTS:
        del cache[next(iter(cache))]


EQUIVALENCE = Equivalence()
"""Shared by the whole process, because starting a worker takes more than a second."""
