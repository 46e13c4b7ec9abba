"""Whether two mathematical answers are the same: numbers exactly, words as text, the rest by math-verify."""

import atexit
import re
import threading

from branchwise.answers.numbers import clean, read_number
from branchwise.answers.process import WorkerProcess
from branchwise.answers.words import MATHEMATICAL, is_unit

_MOST_KNOWN = 10_000  # verdicts remembered
_TRIES = 2  # how often a pair is asked that gets no verdict, each try costing the whole time
_LONGEST = 1_000  # characters; longer answers are compared as text
_COMMANDS = re.compile(r"\\(?:begin|end|operatorname|mathbb|mathcal)\s*\{\w+\*?\}|\\[A-Za-z]+")


class Equivalence:
    """Compares answers. One worker process, started when first needed; safe to use from any thread."""

    def __init__(self, seconds: float = 5.0) -> None:
        """`seconds`: longest time for one pair; after it the pair counts as different."""
        self._seconds = seconds
        self._lock = threading.Lock()
        self._worker = WorkerProcess()
        self._known: dict[tuple[str, str], bool] = {}
        self._tries: dict[tuple[str, str], int] = {}  # of pairs without a verdict
        atexit.register(self.close)

    def same(self, first: str, second: str) -> bool:
        """Whether two answers mean the same; False when it can't be told in time.

        Blocks: call it off the event loop.
        """
        if first == second:
            return True
        numbers = read_number(first), read_number(second)
        if None not in numbers:
            return numbers[0] == numbers[1]
        first, second = _without_unit(clean(first)), _without_unit(clean(second))
        if first == second:
            return True
        if _in_words(first, second):
            return first.casefold() == second.casefold()
        if max(len(first), len(second)) > _LONGEST:
            return False
        pair = (min(first, second), max(first, second))
        verdict = self._known.get(pair)
        if verdict is None:
            with self._lock:
                verdict = self._ask(pair)
        return verdict is True

    def close(self) -> None:
        """End the worker."""
        with self._lock:
            self._worker.stop()

    def _ask(self, pair: tuple[str, str]) -> bool | None:
        """The verdict on a pair. Only a verdict is remembered: without one, the pair may be asked again, though
        not over and over."""
        if pair in self._known or self._tries.get(pair, 0) >= _TRIES:
            return self._known.get(pair)
        verdict = self._worker.ask(pair, self._seconds)
        if verdict is None:
            self._tries[pair] = self._tries.get(pair, 0) + 1
            _keep_newest(self._tries)
        else:
            self._known[pair] = verdict
            _keep_newest(self._known)
        return verdict


def _without_unit(text: str) -> str:
    """ "3\\pi square units" without the units; letters alone stay, they are variables here."""
    measured = re.fullmatch(r"(?P<value>.*[\d\\].*?)\s+(?P<unit>[A-Za-z]{2,}(?:[\s/^]+(?:[A-Za-z]{2,}|\d))*)", text)
    if measured is None or re.search(r"[A-Za-z]{2}", _COMMANDS.sub(" ", measured["value"])):
        return text  # "2 hours and 30 minutes"
    return measured["value"] if is_unit(measured["unit"], apart=True) else text


def _in_words(first: str, second: str) -> bool:
    """Whether these are words rather than mathematics, to which "listen" is a product like "silent"."""
    if all(re.fullmatch(r"[A-Za-z]{2,}", text) for text in (first, second)):
        return True
    words = re.findall(r"[A-Za-z]{4,}", _COMMANDS.sub(" ", f"{first} {second}"))
    return any(not MATHEMATICAL.fullmatch(word) for word in words)


def _keep_newest(remembered: "dict[tuple[str, str], bool] | dict[tuple[str, str], int]") -> None:
    while len(remembered) > _MOST_KNOWN:
        del remembered[next(iter(remembered))]


EQUIVALENCE = Equivalence()
"""The process-wide worker: starting one per question would cost a second each."""
