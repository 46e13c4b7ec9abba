"""Runs: each action of a strategy, early ends, failures."""

import asyncio
import time
from collections.abc import Sequence

import pytest

import branchwise as bw
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.strategies.samples import Samples
from tests.support.throwaway import Log, Throwaway, once

ONE = ScriptedBackend({"": ["Well. The answer is 1."]})


async def test_cancel_stops_a_branch_while_it_streams() -> None:
    backend = ScriptedBackend({"": [Reply("word " * 200, delay=0.001), "The answer is 2."]})

    def plan(log: Log) -> Sequence[bw.Action]:
        if not log.requested:
            log.requested = 1
            return [bw.Extend(log.roots[0], 2, watch_every=5)]
        seen = sum(len(e.token_ids) for e in log.events if isinstance(e, bw.Progress) and e.branch == 0)
        return [bw.Cancel(0)] if seen >= 10 else []

    strategy = Throwaway(plan)
    result = await bw.solve("q", backend, strategy=strategy)
    progress = [e for e in strategy.log.events if isinstance(e, bw.Progress)]
    assert all(len(e.token_ids) == len(e.logprobs) >= 5 for e in progress if e.branch == 0)
    ended = [e for e in strategy.log.events if isinstance(e, bw.Failed)]
    assert [(e.branch, e.error) for e in ended] == [(0, None)]
    assert result.answer == "2"
    assert 10 <= result.usage.discarded < 200
    assert result.usage.discarded < result.usage.sampled


async def test_score_returns_the_log_probabilities_of_continuations() -> None:
    backend = ScriptedBackend({}, scores={" yes": -0.5, " no way": -3.0})
    strategy = once(lambda log: bw.Score(log.roots[0], (" yes", " no way"), tag=3))
    result = await bw.solve("q", backend, strategy=strategy)
    (event,) = strategy.log.events
    assert isinstance(event, bw.Scored)
    assert [sum(row) for row in event.logprobs] == pytest.approx([-0.5, -3.0])
    assert event.action.tag == 3
    assert result.usage.scored == 3


@pytest.mark.parametrize("awaited", [False, True])
async def test_verify_returns_the_score_of_the_verifier(awaited: bool) -> None:
    async def later(path: bw.Path) -> float:
        return 0.75

    strategy = once(lambda log: bw.Verify(log.roots[0]))
    await bw.solve("q", ONE, strategy=strategy, verifier=later if awaited else lambda path: 0.75)
    (event,) = strategy.log.events
    assert isinstance(event, bw.Verified)
    assert event.score == 0.75


async def test_a_failing_verifier_fails_only_its_request() -> None:
    def broken(path: bw.Path) -> float:
        raise ZeroDivisionError("oh")

    strategy = once(lambda log: bw.Verify(log.roots[0]), lambda log: bw.Extend(log.roots[0]))
    result = await bw.solve("q", ScriptedBackend({"": ["The answer is 1."]}), strategy=strategy, verifier=broken)
    assert isinstance(strategy.log.events[0], bw.Failed)
    assert result.answer == "1"
    assert "ZeroDivisionError" in result.errors[0]


async def test_verify_without_a_verifier_raises() -> None:
    with pytest.raises(bw.ConfigError, match="verifier"):
        await bw.solve("q", ONE, strategy=once(lambda log: bw.Verify(log.roots[0])))


async def test_branches_of_a_new_root_are_in_the_result() -> None:
    judge = bw.Messages(turns=(bw.Message(role="user", content="judge this"),))

    def plan(log: Log) -> Sequence[bw.Action]:
        if not log.requested:
            log.requested = 1
            return [bw.Root(judge)]
        rooted = [e for e in log.events if isinstance(e, bw.Rooted)]
        if rooted and log.requested == 1:
            log.requested = 2
            return [bw.Extend(rooted[0].path)]
        return []

    strategy = Throwaway(plan)
    result = await bw.solve("q", ScriptedBackend({"": ["The answer is 5."]}), strategy=strategy)
    assert result.answer == "5"
    assert result.paths[0].path.root.messages == judge


async def test_branches_of_a_judges_prompt_are_asides() -> None:
    judge = bw.Messages(turns=(bw.Message(role="user", content="Is it right?"),))

    def plan(log: Log) -> Sequence[bw.Action]:
        last = log.events[-1] if log.events else None
        if last is None:
            return [bw.Extend(log.roots[0]), bw.Root(judge, task=bw.task("yes-no"))]
        return [bw.Extend(last.path, 2)] if isinstance(last, bw.Rooted) else []

    def reply(path: bw.Path, before: int) -> Reply:
        asked = "right" in str(path.root.messages)
        return Reply("The answer is True.", fail_after=2 if before else None) if asked else Reply("The answer is 5.")

    strategy = Throwaway(plan)
    result = await bw.solve("q", ScriptedBackend(reply), strategy=strategy)
    ends = [e for e in strategy.log.events if isinstance(e, bw.Finished | bw.Failed)]
    assert [(type(e), e.aside) for e in ends] == [(bw.Finished, False), (bw.Finished, True), (bw.Failed, True)]
    judged = ends[1]
    assert isinstance(judged, bw.Finished)
    assert judged.answer == bw.Answer("yes", "True")
    assert (result.answer, [branch.number for branch in result.paths]) == ("5", [0])
    assert (result.usage.sampled, result.usage.discarded) == (5 + 5 + 2, 2)  # the judge's tokens are charged, too
    assert judged.cost.sampled == 5


async def test_an_aside_does_not_vote() -> None:
    judge = bw.Messages(turns=(bw.Message(role="user", content="Is it right?"),))

    class Judged(bw.SelfConsistency):
        def observe(self, samples: Samples, event: bw.Event) -> None:
            if isinstance(event, bw.Rooted):
                samples.root = event.path

        def next_actions(self, samples: Samples) -> Sequence[bw.Action]:
            if not samples.requested:
                return [bw.Root(judge, task=bw.task("yes-no")), *super().next_actions(samples)]
            return [] if samples.requested > self.paths or samples.root.messages != judge else self._judge(samples)

        def _judge(self, samples: Samples) -> Sequence[bw.Action]:
            samples.requested += 1
            return [bw.Extend(samples.root)]

    def reply(path: bw.Path, before: int) -> str:
        return "The answer is yes." if "right" in str(path.root.messages) else "The answer is 1."

    result = await bw.solve("q", ScriptedBackend(reply), strategy=Judged(2))
    assert (result.votes, len(result.paths), result.usage.sampled) == ({"1": 2}, 2, 15)


async def test_a_resumed_path_is_the_same_sample_and_can_be_resumed_once() -> None:
    backend = ScriptedBackend({"": ["One. Two."], "One.": [" The answer is 3."]})

    def plan(log: Log) -> Sequence[bw.Action]:
        log.requested += 1
        if log.requested == 1:
            return [bw.Extend(log.roots[0], sampling=bw.Sampling(max_tokens=2))]
        first = next((e.path for e in log.events if isinstance(e, bw.Finished)), None)
        if first is not None and log.requested in (2, 3):
            return [bw.Extend(first, resume=True)]
        return []

    strategy = Throwaway(plan)
    with pytest.raises(bw.ConfigError, match="resume"):
        await bw.solve("q", backend, strategy=strategy)
    finished = [e for e in strategy.log.events if isinstance(e, bw.Finished)]
    assert finished[1].path.key == finished[0].path.key
    assert finished[1].path.answer_text == "One. The answer is 3."


# Early ends and failures


async def test_a_time_limit_returns_the_best_answer_so_far() -> None:
    backend = ScriptedBackend({"": ["The answer is 1.", Reply("never " * 1000, delay=0.05)]})
    began = time.monotonic()
    result = await bw.solve("q", backend, strategy=bw.SelfConsistency(4), budget=bw.Budget(seconds=0.3))
    assert time.monotonic() - began < 3
    assert result.outcome is bw.Outcome.SECONDS_SPENT
    assert result.answer == "1"
    assert result.usage.discarded > 0
    assert not backend.running


async def test_cancelling_the_task_stops_every_branch() -> None:
    backend = ScriptedBackend({"": [Reply("never " * 1000, delay=0.05)]})
    task = asyncio.create_task(bw.solve("q", backend, strategy=bw.SelfConsistency(3)))
    await asyncio.sleep(0.1)
    assert len(backend.running) == 3
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not backend.running


async def test_a_failing_branch_does_not_affect_the_others() -> None:
    backend = ScriptedBackend({"": [Reply("oh no", fail_after=1), "The answer is 1.", "The answer is 1."]})
    result = await bw.solve("q", backend, strategy=bw.SelfConsistency(3))
    assert result.answer == "1"
    assert len(result.paths) == 2
    assert len(result.errors) == 1
    assert result.usage.discarded == 1


async def test_the_outcome_is_failed_if_every_branch_fails() -> None:
    result = await bw.solve("q", ScriptedBackend({"": [Reply("x", fail_after=0)]}), strategy=bw.SelfConsistency(3))
    assert result.outcome is bw.Outcome.FAILED
    assert result.answer is None
    assert "the script says so" in result.errors[0]


async def test_a_strategy_that_raises_ends_the_run_and_its_branches() -> None:
    backend = ScriptedBackend({"": [Reply("never " * 1000, delay=0.05)]})

    def plan(log: Log) -> Sequence[bw.Action]:
        if log.requested:
            raise LookupError("a bug")
        log.requested = 1
        return [bw.Extend(log.roots[0], 2, watch_every=1)]

    with pytest.raises(LookupError):
        await bw.solve("q", backend, strategy=Throwaway(plan))
    assert not backend.running


async def test_each_question_has_its_own_outcome() -> None:
    def reply(path: bw.Path, before: int) -> Reply:
        slow = "slow" in str(path.root.messages)
        return Reply("never " * 1000, delay=0.05) if slow and before else Reply("The answer is 1.")

    questions = ["quick", "slow", "word " * 200]
    backend = ScriptedBackend(reply, capabilities=bw.Capabilities(model="short", context=150))
    results = await bw.solve_batch(questions, backend, strategy=bw.SelfConsistency(2), budget=bw.Budget(seconds=1.0))
    outcomes = [bw.Outcome.COMPLETE, bw.Outcome.SECONDS_SPENT, bw.Outcome.FAILED]
    assert [result.outcome for result in results] == outcomes
    assert [result.answer for result in results] == ["1", "1", None]
    assert "its prompt is" in results[2].errors[0]


async def test_a_question_with_requests_left_is_not_complete() -> None:
    """A window waits for another question's slow branch, so the next window is not started in time."""

    def reply(path: bw.Path, before: int) -> Reply:
        slow = "slow" in str(path.root.messages)
        return Reply("never " * 1000, delay=0.05) if slow else Reply(f"First. The answer is {before % 2}.")

    results = await bw.solve_batch(
        ["slow", "quick"],
        ScriptedBackend(reply),
        strategy=bw.PathConsistency(10, window=5),
        budget=bw.Budget(seconds=1.0),
    )
    assert [result.outcome for result in results] == [bw.Outcome.SECONDS_SPENT] * 2
    assert len(results[1].paths) == 5
