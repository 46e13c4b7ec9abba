"""Which mathematical answers are the same, and a worker process that may be slow, stuck or killed."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from branchwise.answers import equivalence as module
from branchwise.answers.equivalence import Equivalence

STUCK = ("12345678901!", "y!")  # takes minutes, were it let


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
def test_the_same_answer_written_otherwise(equivalence: Equivalence, first: str, second: str) -> None:
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
def test_different_answers(equivalence: Equivalence, first: str, second: str) -> None:
    assert not equivalence.same(first, second)
    assert not equivalence.same(second, first)


def test_a_comparison_that_never_ends_is_killed_and_the_next_one_works() -> None:
    equivalence = Equivalence(seconds=2.0)
    assert equivalence.same("x+1", "1+x")  # the worker has started: what follows times the pair alone
    began = time.monotonic()
    assert not equivalence.same(*STUCK)
    assert 1.9 < time.monotonic() - began < 30
    assert equivalence.same("\\sqrt{8}", "2\\sqrt{2}")
    equivalence.close()


def test_a_pair_without_a_verdict_is_asked_again_but_not_for_ever() -> None:
    equivalence = Equivalence(seconds=0.0)  # no pair gets a verdict
    for _ in range(module._TRIES):
        assert not equivalence.same("x+1", "1+x")
    equivalence._seconds = 30.0
    assert not equivalence.same("x+1", "1+x")  # given up
    assert equivalence.same("x+2", "2+x")
    equivalence.close()


def test_a_pair_that_was_slow_once_may_still_get_its_verdict() -> None:
    equivalence = Equivalence(seconds=0.0)
    assert not equivalence.same("x+1", "1+x")
    equivalence._seconds = 30.0
    assert equivalence.same("x+1", "1+x")
    equivalence._seconds = 0.0
    assert equivalence.same("x+1", "1+x")  # a verdict is remembered
    equivalence.close()


def test_a_worker_killed_in_the_middle_gives_no_and_the_next_comparison_works() -> None:
    equivalence = Equivalence(seconds=60.0)
    assert equivalence.same("x+1", "1+x")
    pid = equivalence._worker.pid
    assert pid is not None
    killer = threading.Timer(0.5, os.kill, (pid, signal.SIGKILL))
    killer.start()
    began = time.monotonic()
    assert not equivalence.same(*STUCK)
    assert 0.4 < time.monotonic() - began < 4  # before the library gives up by itself
    killer.join()
    assert equivalence.same("x+2", "2+x")
    assert equivalence._worker.pid != pid
    equivalence.close()


def test_a_worker_killed_between_comparisons_is_started_again() -> None:
    equivalence = Equivalence(seconds=30.0)
    for pair in (("x+1", "1+x"), ("x+2", "2+x"), ("x+3", "3+x")):
        assert equivalence.same(*pair) or equivalence.same(*pair)  # the death may show while the pair is written
        assert equivalence._worker.pid is not None
        os.kill(equivalence._worker.pid, signal.SIGKILL)
    equivalence.close()


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_KNOWN", 3)
    equivalence = Equivalence(seconds=30.0)
    for number in range(6):
        assert not equivalence.same(f"x+{number}", "y")
    assert len(equivalence._known) == 3
    equivalence.close()


def test_answers_too_long_to_compare_are_different_unless_equal(equivalence: Equivalence) -> None:
    assert not equivalence.same("x+" * 2000 + "1", "1" + "+x" * 2000)
    assert equivalence.same("x+" * 2000 + "1", " x+" + "x+" * 1999 + "1")


def test_threads_may_ask_at_once(equivalence: Equivalence) -> None:
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
