"""Equivalence of mathematical answers, also when the worker process is slow, stuck or killed."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from branchwise.answers import equivalence as module
from branchwise.answers.equivalence import Equivalence

STUCK = ("12345678901!", "y!")  # takes minutes


@pytest.fixture(scope="module")
def equivalence() -> Iterator[Equivalence]:
    shared = Equivalence(seconds=30)
    yield shared
    shared.close()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("x=3", "3"),
        ("\\sqrt{8}", "2\\sqrt{2}"),
        ("sqrt(8)", "2√2"),
        ("10^3", "1000"),
        ("2^{10}", "1024"),
        ("50/100", "\\frac12"),
        ("0.\\overline{3}", "1/3"),
        ("2\\frac{1}{2}", "2.5"),
        ("90^\\circ", "90"),
        ("5 pi", "5\\pi"),
        ("5π", "5\\pi"),
        ("3\\pi \\text{ square units}", "3\\pi"),
        ("x**2", "x^2"),
        ("x²", "x^2"),
        ("x^2-1", "(x-1)(x+1)"),
        ("\\frac{1}{2}x", "x/2"),
        ("y=2x+3", "2x+3"),
        ("-2<x<3", "(-2,3)"),
        ("x≥-1", "[-1,\\infty)"),
        ("\\left(2,3\\right)", "( 2, 3 )"),
        ("\\{1,2\\}", "{2,1}"),
        ("x = 2 or x = 3", "2, 3"),
        ("\\pm 3", "3, -3"),
        ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix}1\\\\2\\end{pmatrix}"),
        ("\\text{Monday}", "monday"),
        ("\\text{(C)}", "C"),
        ("no  solution", "No solution"),
    ],
)
def test_equivalent_notations_are_equal(equivalence: Equivalence, first: str, second: str) -> None:
    assert equivalence.same(first, second)
    assert equivalence.same(second, first)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("listen", "silent"),
        ("no solution", "solution no"),
        ("east", "seat"),
        ("ab", "ba"),
        ("(2,3)", "(3,2)"),
        ("[0,1)", "(0,1]"),
        ("-5", "5"),
        ("x+1", "x-1"),
        ("x<3", "x>3"),
        ("0.333", "1/3"),
        ("0.\\overline{3}", "0"),
        ("3.14", "\\pi"),
        ("50%", "0.5"),
        ("1.234", "1234"),
        ("2x", "2"),
        ("5 pi", "5"),
        ("10 mod 3", "10"),
        ("5 or 6", "5"),
        ("2 hours and 30 minutes", "2 hours and 30 seconds"),
        ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix} 2 \\\\ 1 \\end{pmatrix}"),
    ],
)
def test_different_answers_are_not_equal(equivalence: Equivalence, first: str, second: str) -> None:
    assert not equivalence.same(first, second)
    assert not equivalence.same(second, first)


def test_worker_restarts_after_a_comparison_times_out() -> None:
    equivalence = Equivalence(seconds=2.0)
    assert equivalence.same("x+1", "1+x")  # starts the worker, so that the time below is that of the pair
    began = time.monotonic()
    assert not equivalence.same(*STUCK)
    assert 1.9 < time.monotonic() - began < 30
    assert equivalence.same("\\sqrt{8}", "2\\sqrt{2}")
    equivalence.close()


def test_pair_without_a_verdict_has_limited_attempts() -> None:
    equivalence = Equivalence(seconds=0.0)  # no pair gets a verdict
    for _ in range(module._MAX_ATTEMPTS):
        assert not equivalence.same("x+1", "1+x")
    equivalence._seconds = 30.0
    assert not equivalence.same("x+1", "1+x")  # no further attempt
    assert equivalence.same("x+2", "2+x")
    equivalence.close()


def test_pair_that_timed_out_once_can_still_get_a_verdict() -> None:
    equivalence = Equivalence(seconds=0.0)
    assert not equivalence.same("x+1", "1+x")
    equivalence._seconds = 30.0
    assert equivalence.same("x+1", "1+x")
    equivalence._seconds = 0.0
    assert equivalence.same("x+1", "1+x")  # from the cache
    equivalence.close()


def test_worker_killed_during_a_comparison_is_restarted() -> None:
    equivalence = Equivalence(seconds=60.0)
    assert equivalence.same("x+1", "1+x")
    pid = equivalence._worker.pid
    assert pid is not None
    killer = threading.Timer(0.5, os.kill, (pid, signal.SIGKILL))
    killer.start()
    began = time.monotonic()
    assert not equivalence.same(*STUCK)
    assert 0.4 < time.monotonic() - began < 4  # before the library's own timeout
    killer.join()
    assert equivalence.same("x+2", "2+x")
    assert equivalence._worker.pid != pid
    equivalence.close()


def test_worker_killed_between_comparisons_is_restarted() -> None:
    equivalence = Equivalence(seconds=30.0)
    for pair in (("x+1", "1+x"), ("x+2", "2+x"), ("x+3", "3+x")):
        assert equivalence.same(*pair) or equivalence.same(
            *pair
        )  # the first call may fail while it writes to the dead worker
        assert equivalence._worker.pid is not None
        os.kill(equivalence._worker.pid, signal.SIGKILL)
    equivalence.close()


def test_cache_of_verdicts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_VERDICTS", 3)
    equivalence = Equivalence(seconds=30.0)
    for number in range(6):
        assert not equivalence.same(f"x+{number}", "y")
    assert len(equivalence._verdicts) == 3
    equivalence.close()


def test_long_answers_are_compared_as_text(equivalence: Equivalence) -> None:
    assert not equivalence.same("x+" * 2000 + "1", "1" + "+x" * 2000)
    assert equivalence.same("x+" * 2000 + "1", " x+" + "x+" * 1999 + "1")


def test_threads_can_compare_concurrently(equivalence: Equivalence) -> None:
    verdicts: list[bool] = []
    threads = [
        threading.Thread(target=lambda n=n: verdicts.append(equivalence.same(f"z+{n % 2}", f"{n % 2}+z")))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == [True] * 8
