"""The comparison of answers when expressions are slow, workers die and time is short."""

import asyncio
import os
import signal
import threading
import time

import pytest

from branchwise.answers import equivalence as module
from branchwise.answers.equivalence import Equivalence
from branchwise.answers.keys import key_of

SLOW = "\\sum_{k=1}^{10^7} \\sin k"  # takes minutes


def freeze(equivalence: Equivalence) -> None:
    """Stop every worker, as a worker that never replies."""
    for pid in equivalence._pool.pids:
        os.kill(pid, signal.SIGSTOP)


def started(equivalence: Equivalence, workers: int) -> Equivalence:
    """Return it with the workers started; the spare one starts in the background."""
    assert equivalence.same("x+1", "1+x")
    while len(equivalence._pool.pids) < workers:
        time.sleep(0.05)
    return equivalence


def test_worker_that_never_replies_is_killed() -> None:
    equivalence = started(Equivalence(seconds=2.0, workers=1), 1)
    (frozen,) = equivalence._pool.pids
    freeze(equivalence)
    began = time.monotonic()
    assert not equivalence.read("x+2").is_complete
    assert 1.9 < time.monotonic() - began < 30
    assert equivalence.same("\\sqrt{8}", "2\\sqrt{2}")
    assert frozen not in equivalence._pool.pids
    equivalence.close()


def test_slow_expression_ends_at_its_processor_time() -> None:
    equivalence = Equivalence(seconds=60.0)
    pids = [equivalence._pool.pids for text in ("x+1", SLOW) if equivalence.read(text)]
    assert not equivalence.read(SLOW).is_complete
    assert set(pids[0]) <= set(pids[1])  # no worker was killed
    equivalence.close()


def test_expression_without_a_reply_has_limited_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    equivalence = Equivalence(seconds=0.0)  # no expression gets a reply
    for _ in range(module._MAX_ATTEMPTS):
        assert not equivalence.same("x+1", "1+x")
    equivalence._seconds = 30.0
    assert not equivalence.same("x+1", "1+x")  # no further attempt for "x+1"
    assert equivalence.same("x+2", "2+x")
    equivalence.close()


def test_expression_that_timed_out_once_can_still_be_read() -> None:
    equivalence = Equivalence(seconds=0.0)
    assert not equivalence.read("x+1").is_complete
    equivalence._seconds = 30.0
    assert equivalence.read("x+1").is_complete
    equivalence._seconds = 0.0
    assert equivalence.read("x+1").is_complete  # from the cache
    equivalence.close()


def test_a_short_deadline_is_no_attempt() -> None:
    equivalence = Equivalence(seconds=30.0)
    for _ in range(5):
        assert not equivalence.read("x+7", seconds=0.0).is_complete
    assert equivalence.read("x+7").is_complete
    equivalence.close()


def test_worker_killed_during_an_evaluation_is_replaced() -> None:
    equivalence = started(Equivalence(seconds=60.0, workers=1), 1)
    freeze(equivalence)  # the evaluation is under way until the kill
    killer = threading.Timer(0.5, os.kill, (equivalence._pool.pids[0], signal.SIGKILL))
    killer.start()
    began = time.monotonic()
    assert not equivalence.read("x+2").is_complete
    assert 0.4 < time.monotonic() - began < 30
    killer.join()
    assert equivalence.same("\\sqrt{8}", "2\\sqrt{2}")
    equivalence.close()


def test_a_slow_expression_does_not_delay_another_question() -> None:
    equivalence = started(Equivalence(seconds=10.0), 2)

    async def both() -> float:
        slow = asyncio.create_task(equivalence.read_async(SLOW))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        assert (await equivalence.read_async("\\sqrt{8}+x")).is_complete
        delay = time.monotonic() - began
        assert not (await slow).is_complete
        return delay

    assert asyncio.run(both()) < 5.0
    equivalence.close()


def test_answers_without_expressions_need_no_worker() -> None:
    equivalence = Equivalence()
    assert equivalence.same("72 clips", "72.0")
    assert equivalence.same("(1, 2)", "x=1, y=2")
    assert not equivalence.same("Monday", "Tuesday")
    assert equivalence._pool.pids == []


def test_cache_of_replies_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_CACHED", 3)
    equivalence = Equivalence(seconds=30.0)
    for number in range(6):
        assert not equivalence.same(f"x+{number}", "y")
    assert len(equivalence._replies) == 3
    equivalence.close()


def test_threads_can_compare_concurrently() -> None:
    equivalence = Equivalence(seconds=30.0)
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
    equivalence.close()


def test_each_expression_is_evaluated_once_for_forty_answers() -> None:
    requests: list[str] = []

    def evaluate(latex: str, _kind: object) -> str:
        requests.append(latex)
        return str(len(requests))

    for number in range(40):
        key_of(f"\\frac{{\\sqrt{{{number}}}}}{{7}}", evaluate)
    assert len(requests) == 40
