"""Failures of prompts, verifiers, observers, formats, backends and strategies affect only their own work."""

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest

import branchwise as bw
from branchwise.answers.formats import Math
from branchwise.backends.base import ExtendRequest, Scores
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.backends.stream import Extension
from branchwise.driver import BranchEnded, BranchStarted, QuestionEnded, Standing
from tests.support.throwaway import Log, Throwaway, once

ANSWER = {"": ["The answer is 1."]}


# Prompts


class BadRoots(ScriptedBackend):
    """A backend that hangs on, refuses or crashes on some prompts."""

    async def root(self, messages: bw.Messages, key: int) -> bw.Path:
        question = messages.turns[-1].content
        if question == "hangs":
            await asyncio.sleep(60)
        if question == "breaks":
            raise bw.BackendError("no such model", retryable=False, hint="look")
        if question == "bug":
            raise KeyError("oh")
        return await super().root(messages, key)


async def test_a_bad_prompt_does_not_fail_the_batch() -> None:
    questions = ["good", "", "breaks", "bug", "good too"]
    results = await bw.solve_batch(questions, BadRoots(ANSWER), strategy=bw.SelfConsistency(2))
    assert [result.answer for result in results] == ["1", None, None, None, "1"]
    failed, complete = bw.Outcome.FAILED, bw.Outcome.COMPLETE
    assert [result.outcome for result in results] == [complete, failed, failed, failed, complete]
    errors = [result.errors[0] if result.errors else "" for result in results]
    assert all(
        part in error for part, error in zip(["", "is empty", "no such model", "KeyError", ""], errors, strict=True)
    )
    assert "question: is empty" in errors[1]


async def test_events_have_the_index_among_all_questions() -> None:
    seen: list[bw.RunEvent] = []
    strategy = bw.SelfConsistency(2)
    await bw.solve_batch(["", "good"], BadRoots(ANSWER), strategy=strategy, observer=seen.append)
    assert {event.question for event in seen if isinstance(event, BranchStarted | BranchEnded | Standing)} == {1}
    assert [event.question for event in seen if isinstance(event, QuestionEnded)] == [0, 1]


async def test_solve_raises_a_bad_argument_but_no_backend_error() -> None:
    with pytest.raises(bw.ConfigError, match="question: is empty"):
        await bw.solve("", BadRoots(ANSWER))
    result = await bw.solve("breaks", BadRoots(ANSWER))
    assert (result.outcome, result.answer) == (bw.Outcome.FAILED, None)
    assert "no such model" in result.errors[0]


async def test_the_deadline_and_a_stop_apply_to_prompts() -> None:
    began = time.monotonic()
    late = await bw.solve_batch(["hangs", "good"], BadRoots(ANSWER), budget=bw.Budget(seconds=0.2))
    assert [result.outcome for result in late] == [bw.Outcome.SECONDS_SPENT] * 2
    stop = bw.Stop()
    asyncio.get_running_loop().call_later(0.1, stop.set)
    assert (await bw.solve("hangs", BadRoots(ANSWER), stop=stop)).outcome is bw.Outcome.CANCELLED
    assert time.monotonic() - began < 5


# Deadlines


async def test_a_deadline_cancels_scores_and_verifiers() -> None:
    class Slow(ScriptedBackend):
        async def score(self, path: bw.Path, continuations: Sequence[str]) -> Scores:
            await asyncio.sleep(60)
            raise AssertionError

    cancelled: list[bool] = []

    async def verifier(path: bw.Path) -> float:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return 0.0

    strategy = once(lambda log: bw.Score(log.roots[0], ("x",)), lambda log: bw.Verify(log.roots[0]))
    began = time.monotonic()
    result = await bw.solve("q", Slow(ANSWER), strategy=strategy, verifier=verifier, budget=bw.Budget(seconds=0.2))
    assert time.monotonic() - began < 3
    assert [e.error for e in strategy.log.events if isinstance(e, bw.Failed)] == [None, None]
    assert (result.outcome, cancelled) == (bw.Outcome.SECONDS_SPENT, [True])


def test_a_blocking_verifier_delays_neither_run_nor_deadline() -> None:
    release = threading.Event()

    def verifier(path: bw.Path) -> float:
        release.wait(30)
        return 0.0

    strategy = once(lambda log: bw.Verify(log.roots[0]), lambda log: bw.Extend(log.roots[0]))
    began = time.monotonic()
    try:
        result = bw.solve_sync(
            "q", ScriptedBackend(ANSWER), strategy=strategy, verifier=verifier, budget=bw.Budget(seconds=1.0)
        )
        assert time.monotonic() - began < 5
    finally:
        release.set()
    assert (result.answer, result.outcome) == ("1", bw.Outcome.SECONDS_SPENT)


async def test_a_sync_verifier_is_called_for_one_path_at_a_time() -> None:
    busy, most = [0], [0]

    def verifier(path: bw.Path) -> float:
        busy[0] += 1
        most[0] = max(most[0], busy[0])
        time.sleep(0.01)
        busy[0] -= 1
        return 1.0

    strategy = once(*[lambda log: bw.Verify(log.roots[0])] * 5)
    await bw.solve("q", ScriptedBackend(ANSWER), strategy=strategy, verifier=verifier)
    assert most == [1]
    assert len(strategy.log.events) == 5


# User code


async def test_a_failing_observer_is_reported_once_and_not_called_again() -> None:
    calls: list[bw.RunEvent] = []

    def observer(event: bw.RunEvent) -> None:
        calls.append(event)
        raise LookupError("a display")

    result = await bw.solve("q", ScriptedBackend(ANSWER), strategy=bw.SelfConsistency(3), observer=observer)
    assert (result.answer, len(result.paths), result.outcome) == ("1", 3, bw.Outcome.COMPLETE)
    assert result.errors == ("observer: failed with LookupError: a display",)
    assert len(calls) == 1


async def test_a_failing_format_fails_one_branch() -> None:
    class Picky(Math):
        def extract(self, text: str) -> str | None:
            if "2" in text:
                raise ValueError("two")
            return super().extract(text)

    task = bw.Task(name="picky", format=Picky())
    backend = ScriptedBackend({"": ["The answer is 1.", "The answer is 2."]})
    result = await bw.solve("q", backend, strategy=bw.SelfConsistency(3), task=task)
    assert (result.answer, result.votes) == ("1", {"1": 2})
    assert result.errors == ("task picky: failed with ValueError: two",)
    assert result.usage.discarded == 5


class Buggy(ScriptedBackend):
    """A backend that raises errors outside the contract."""

    def extend(self, request: ExtendRequest) -> Extension:
        raise KeyError("extend")

    async def score(self, path: bw.Path, continuations: Sequence[str]) -> Scores:
        raise KeyError("score")


async def test_a_crashing_backend_fails_only_the_requests_affected() -> None:
    strategy = once(lambda log: bw.Extend(log.roots[0], 2), lambda log: bw.Score(log.roots[0], ("x",)))
    result = await bw.solve("q", Buggy(ANSWER), strategy=strategy)
    errors = [e.error for e in strategy.log.events if isinstance(e, bw.Failed)]
    assert len(errors) == 3
    assert all(isinstance(error, bw.BackendError) and not error.retryable for error in errors)
    assert result.outcome is bw.Outcome.FAILED
    assert len(result.errors) == 2


async def test_a_thinking_block_that_cannot_be_closed_fails_its_branch() -> None:
    class Unforced(ScriptedBackend):
        async def force(self, path: bw.Path, text: str) -> bw.Path:
            raise RuntimeError("no")

    task = bw.Task(name="t", format=Math(), thinking=bw.Thinking(budget=3))
    result = await bw.solve("q", Unforced({"": ["a b c d e"]}), strategy=bw.Greedy(), task=task)
    assert (result.outcome, result.usage.sampled, result.usage.discarded) == (bw.Outcome.FAILED, 3, 3)
    assert "RuntimeError" in result.errors[0]


async def test_a_bug_of_a_strategy_is_raised() -> None:
    class Forgetful(Throwaway):
        def tell(self, state: Log, event: bw.Event) -> None:
            raise LookupError("a bug")

    backend = ScriptedBackend({"": [Reply("word " * 1000, delay=0.01), "short"]})
    with pytest.raises(LookupError, match="a bug"):
        await bw.solve(
            "q", backend, strategy=Forgetful(once(lambda log: bw.Extend(log.roots[0], 2, watch_every=1)).plan)
        )
    assert not backend.running
