"""The driver: one throwaway strategy for each action, budgets, cancellation, failures, the ledger."""

import asyncio
import time
from collections.abc import Sequence

import pytest

import branchwise as bw
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.driver import BranchEnded, BranchStarted, Standing
from branchwise.strategies.samples import Samples
from tests.support.throwaway import Log, Throwaway, once

ONE = ScriptedBackend({"": ["Well. The answer is 1."]})


# One throwaway strategy for each action


async def test_a_branch_can_be_killed_mid_stream() -> None:
    backend = ScriptedBackend({"": [Reply("word " * 200, delay=0.001), "The answer is 2."]})

    def plan(log: Log) -> Sequence[bw.Action]:
        if not log.asked:
            log.asked = 1
            return [bw.Extend(log.roots[0], 2, watch_every=5)]
        seen = sum(len(e.token_ids) for e in log.told if isinstance(e, bw.Progress) and e.branch == 0)
        return [bw.Cancel(0)] if seen >= 10 else []

    strategy = Throwaway(plan)
    result = await bw.solve("q", backend, strategy=strategy)
    progress = [e for e in strategy.log.told if isinstance(e, bw.Progress)]
    assert all(len(e.token_ids) == len(e.logprobs) >= 5 for e in progress if e.branch == 0)
    ended = [e for e in strategy.log.told if isinstance(e, bw.Failed)]
    assert [(e.branch, e.error) for e in ended] == [(0, None)]
    assert result.answer == "2"
    assert 10 <= result.usage.discarded < 200
    assert result.usage.discarded < result.usage.sampled


async def test_continuations_can_be_scored() -> None:
    backend = ScriptedBackend({}, scores={" yes": -0.5, " no way": -3.0})
    strategy = once(lambda log: bw.Score(log.roots[0], (" yes", " no way"), tag=3))
    result = await bw.solve("q", backend, strategy=strategy)
    (event,) = strategy.log.told
    assert isinstance(event, bw.Scored)
    assert [sum(row) for row in event.logprobs] == pytest.approx([-0.5, -3.0])
    assert event.action.tag == 3
    assert result.usage.scored == 3


@pytest.mark.parametrize("awaited", [False, True])
async def test_a_path_can_be_verified(awaited: bool) -> None:
    async def later(path: bw.Path) -> float:
        return 0.75

    strategy = once(lambda log: bw.Verify(log.roots[0]))
    await bw.solve("q", ONE, strategy=strategy, verifier=later if awaited else lambda path: 0.75)
    (event,) = strategy.log.told
    assert isinstance(event, bw.Verified)
    assert event.score == 0.75


async def test_a_verifier_that_fails_costs_its_path_alone() -> None:
    def broken(path: bw.Path) -> float:
        raise ZeroDivisionError("oh")

    strategy = once(lambda log: bw.Verify(log.roots[0]), lambda log: bw.Extend(log.roots[0]))
    result = await bw.solve("q", ScriptedBackend({"": ["The answer is 1."]}), strategy=strategy, verifier=broken)
    assert isinstance(strategy.log.told[0], bw.Failed)
    assert result.answer == "1"
    assert "ZeroDivisionError" in result.errors[0]


async def test_verifying_without_a_verifier_is_an_error() -> None:
    with pytest.raises(bw.ConfigError, match="verifier"):
        await bw.solve("q", ONE, strategy=once(lambda log: bw.Verify(log.roots[0])))


async def test_a_new_root_can_be_asked_for_and_grown() -> None:
    judge = bw.Messages(turns=(bw.Message(role="user", content="judge this"),))

    def plan(log: Log) -> Sequence[bw.Action]:
        if not log.asked:
            log.asked = 1
            return [bw.Root(judge)]
        rooted = [e for e in log.told if isinstance(e, bw.Rooted)]
        if rooted and log.asked == 1:
            log.asked = 2
            return [bw.Extend(rooted[0].path)]
        return []

    strategy = Throwaway(plan)
    result = await bw.solve("q", ScriptedBackend({"": ["The answer is 5."]}), strategy=strategy)
    assert result.answer == "5"
    assert result.paths[0].path.root.messages == judge


async def test_branches_of_a_judges_prompt_are_asides() -> None:
    judge = bw.Messages(turns=(bw.Message(role="user", content="Is it right?"),))

    def plan(log: Log) -> Sequence[bw.Action]:
        last = log.told[-1] if log.told else None
        if last is None:
            return [bw.Extend(log.roots[0]), bw.Root(judge, task=bw.task("yes-no"))]
        return [bw.Extend(last.path, 2)] if isinstance(last, bw.Rooted) else []

    def reply(path: bw.Path, before: int) -> Reply:
        asked = "right" in str(path.root.messages)
        return Reply("The answer is True.", fail_after=2 if before else None) if asked else Reply("The answer is 5.")

    strategy = Throwaway(plan)
    result = await bw.solve("q", ScriptedBackend(reply), strategy=strategy)
    ends = [e for e in strategy.log.told if isinstance(e, bw.Finished | bw.Failed)]
    assert [(type(e), e.aside) for e in ends] == [(bw.Finished, False), (bw.Finished, True), (bw.Failed, True)]
    assert ends[1].answer == bw.Answer("yes", "True")
    assert (result.answer, [branch.number for branch in result.paths]) == ("5", [0])
    assert (result.usage.sampled, result.usage.discarded) == (5 + 5 + 2, 2)  # judging is paid for, too
    assert ends[1].cost.sampled == 5


async def test_an_aside_is_no_sample_of_a_strategy_that_votes() -> None:
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


async def test_two_questions_share_one_budget() -> None:
    backend = ScriptedBackend({"": ["The answer is 1."] * 50})
    strategy = once(lambda log: bw.Extend(log.roots[0], 2), lambda log: bw.Extend(log.roots[1], 10))
    results = await bw.solve_batch(["a", "b"], backend, strategy=strategy, budget=bw.Budget(paths=5))
    assert [len(r.paths) for r in results] == [2, 3]
    assert [r.answer for r in results] == ["1", "1"]
    # The first question got all it asked for.
    assert [r.outcome for r in results] == [bw.Outcome.COMPLETE, bw.Outcome.PATHS_SPENT]


async def test_a_resumed_path_is_the_same_sample_and_can_be_resumed_once() -> None:
    backend = ScriptedBackend({"": ["One. Two."], "One.": [" The answer is 3."]})

    def plan(log: Log) -> Sequence[bw.Action]:
        log.asked += 1
        if log.asked == 1:
            return [bw.Extend(log.roots[0], sampling=bw.Sampling(max_tokens=2))]
        first = next((e.path for e in log.told if isinstance(e, bw.Finished)), None)
        if first is not None and log.asked in (2, 3):
            return [bw.Extend(first, resume=True)]
        return []

    strategy = Throwaway(plan)
    with pytest.raises(bw.ConfigError, match="resume"):
        await bw.solve("q", backend, strategy=strategy)
    finished = [e for e in strategy.log.told if isinstance(e, bw.Finished)]
    assert finished[1].path.key == finished[0].path.key
    assert finished[1].path.answer_text == "One. The answer is 3."


# Order, budgets, ends


async def test_events_are_told_in_issue_order_whatever_finishes_first() -> None:
    delays = [0.05, 0.0, 0.03, 0.01]
    backend = ScriptedBackend({"": [Reply(f"The answer is {i}.", delay=d) for i, d in enumerate(delays)]})
    strategy = once(lambda log: bw.Extend(log.roots[0], 4))
    await bw.solve("q", backend, strategy=strategy)
    assert [e.branch for e in strategy.log.told if isinstance(e, bw.Finished)] == [0, 1, 2, 3]


@pytest.mark.parametrize("tokens", [1, 7, 23, 60, 61, 1000])
async def test_the_token_budget_is_never_exceeded_and_never_wasted(tokens: int) -> None:
    backend = ScriptedBackend({"": [Reply("So it goes. The answer is 1.", delay=0.001 * i) for i in range(3)]})
    strategy = bw.SelfConsistency(12, bw.Sampling(max_tokens=20))  # 9 tokens each, 108 in all
    result = await bw.solve("q", backend, strategy=strategy, budget=bw.Budget(tokens=tokens))
    spent = result.usage.sampled + result.usage.scored
    assert spent == min(tokens, 108)
    assert result.outcome is (bw.Outcome.COMPLETE if tokens >= 108 else result.outcome)
    if tokens < 9:
        assert result.answer is None
    if 9 <= tokens < 108:
        assert result.outcome is bw.Outcome.TOKENS_SPENT
        assert result.answer == "1"


async def test_a_budget_gives_the_same_result_whatever_the_timing() -> None:
    results = []
    for delays in ([0.0] * 4, [0.004, 0.0, 0.002, 0.001]):
        replies = [Reply("a " * n + "The answer is 1.", delay=d) for n, d in zip((9, 2, 5, 1), delays, strict=True)]
        strategy = bw.SelfConsistency(12, bw.Sampling(max_tokens=20))
        result = await bw.solve("q", ScriptedBackend({"": replies}), strategy=strategy, budget=bw.Budget(tokens=50))
        results.append([(b.number, b.path.answer_text) for b in result.paths])
    assert results[0] == results[1]


async def test_time_runs_out_with_the_best_answer_so_far() -> None:
    backend = ScriptedBackend({"": ["The answer is 1.", Reply("never " * 1000, delay=0.05)]})
    began = time.monotonic()
    result = await bw.solve("q", backend, strategy=bw.SelfConsistency(4), budget=bw.Budget(seconds=0.3))
    assert time.monotonic() - began < 3
    assert result.outcome is bw.Outcome.SECONDS_SPENT
    assert result.answer == "1"
    assert result.usage.discarded > 0
    assert not backend.running


@pytest.mark.parametrize(("field", "value"), [("tokens", 0), ("seconds", -1.0), ("paths", 0)])
def test_budgets_are_checked_at_construction(field: str, value: float) -> None:
    with pytest.raises(bw.ConfigError, match=f"budget_{field}"):
        bw.Budget(**{field: value})  # type: ignore[arg-type]


async def test_stop_returns_the_best_answer_so_far() -> None:
    backend = ScriptedBackend({"": ["The answer is 1.", Reply("never " * 1000, delay=0.05)]})
    stop = bw.Stop()
    asyncio.get_running_loop().call_later(0.2, stop.set)
    result = await bw.solve("q", backend, strategy=bw.SelfConsistency(2), stop=stop)
    assert result.outcome is bw.Outcome.CANCELLED
    assert result.answer == "1"
    assert not backend.running


async def test_a_finished_branch_behind_an_unfinished_one_is_not_lost() -> None:
    backend = ScriptedBackend({"": [Reply("never " * 1000, delay=0.05), "The answer is 1."]})
    result = await bw.solve("q", backend, strategy=bw.SelfConsistency(2), budget=bw.Budget(seconds=0.2))
    assert result.answer == "1"


async def test_cancelling_the_task_stops_every_branch() -> None:
    backend = ScriptedBackend({"": [Reply("never " * 1000, delay=0.05)]})
    task = asyncio.create_task(bw.solve("q", backend, strategy=bw.SelfConsistency(3)))
    await asyncio.sleep(0.1)
    assert len(backend.running) == 3
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not backend.running


async def test_a_failing_branch_leaves_the_others() -> None:
    backend = ScriptedBackend({"": [Reply("oh no", fail_after=1), "The answer is 1.", "The answer is 1."]})
    result = await bw.solve("q", backend, strategy=bw.SelfConsistency(3))
    assert result.answer == "1"
    assert len(result.paths) == 2
    assert len(result.errors) == 1
    assert result.usage.discarded == 1


async def test_when_every_branch_fails_the_result_says_so() -> None:
    result = await bw.solve("q", ScriptedBackend({"": [Reply("x", fail_after=0)]}), strategy=bw.SelfConsistency(3))
    assert result.outcome is bw.Outcome.FAILED
    assert result.answer is None
    assert "the script says so" in result.errors[0]


async def test_no_answer_is_none_and_says_why() -> None:
    result = await bw.solve("q", ScriptedBackend({"": ["I wonder."]}), strategy=bw.SelfConsistency(3))
    assert (result.answer, result.confidence, result.outcome) == (None, None, bw.Outcome.NO_ANSWER)


async def test_a_strategy_that_raises_ends_the_run_and_its_branches() -> None:
    backend = ScriptedBackend({"": [Reply("never " * 1000, delay=0.05)]})

    def plan(log: Log) -> Sequence[bw.Action]:
        if log.asked:
            raise LookupError("a bug")
        log.asked = 1
        return [bw.Extend(log.roots[0], 2, watch_every=1)]

    with pytest.raises(LookupError):
        await bw.solve("q", backend, strategy=Throwaway(plan))
    assert not backend.running


# The ledger and what is reported


async def test_the_ledger_adds_up() -> None:
    backend = ScriptedBackend({"": ["A b. C d. The answer is 1."], "A b.": [" C d. The answer is 1."]})
    result = await bw.solve("q", backend, strategy=bw.PathConsistency.plain(10))
    usage = result.usage
    assert usage.prompt == usage.reused + usage.prefilled
    assert usage.prompt == sum(len(b.path.root.token_ids) + b.prefix_tokens for b in result.paths)
    assert usage.sampled == sum(len(b.path.token_ids) for b in result.paths)
    assert usage.prefilled == len(result.paths[0].path.root.token_ids)  # nothing is computed twice
    assert usage.discarded == usage.drafted == usage.accepted == usage.scored == 0


async def test_a_branch_knows_what_it_continues_and_its_record_replays_it() -> None:
    script = {
        "": ["A b. C d. The answer is 1."],
        "A b.": [" C d. The answer is 1."],
        "A b. C d.": [" The answer is 1."],
    }
    result = await bw.solve("q", ScriptedBackend(script), strategy=bw.PathConsistency.plain(12))
    numbers = {branch.number: branch for branch in result.paths}
    for branch in result.paths:
        assert (branch.parent is None) == (branch.prefix_tokens == 0)
        if branch.parent is not None:
            assert branch.parent < branch.number
            same = slice(branch.prefix_tokens)
            ours, theirs = branch.path.all_token_ids(), numbers[branch.parent].path.all_token_ids()
            prompt = len(branch.path.root.token_ids)
            assert ours[: prompt + same.stop] == theirs[: prompt + same.stop]
    assert {branch.prefix_tokens for branch in result.paths} == {0, 3, 6}
    for branch, record in zip(result.paths, result.record()["paths"], strict=True):
        segments = record["segments"]
        assert tuple(t for s in segments for t in s["token_ids"]) == tuple(
            t for s in branch.path.segments() for t in s.token_ids
        )
        assert all(len(s["token_ids"]) == len(s["ends"]) == len(s["logprobs"]) for s in segments)
        assert [s["key"] for s in segments] == [f"{s.key:016x}" for s in branch.path.segments()]
        assert (record["parent"], record["prefix_tokens"]) == (branch.parent, branch.prefix_tokens)
        assert record["cost"]["sampled"] == len(branch.path.token_ids)
        assert record["stop_reason"] == "end"
    lean = result.record(tokens=False)["paths"]
    assert all("segments" not in record and record["text"] for record in lean)


async def test_a_path_resumed_in_steps_names_the_step_before() -> None:
    script = {"": ["A b. C d."], "A b": [". C d."], "A b. C": [" d."]}

    def plan(log: Log) -> Sequence[bw.Action]:
        sampling = bw.Sampling(max_tokens=2)
        if not log.told:
            return [bw.Extend(log.roots[0], sampling=sampling)]
        last = log.told[-1]
        more = isinstance(last, bw.Finished) and last.path.stop_reason is bw.StopReason.LENGTH
        return [bw.Extend(last.path, sampling=sampling, resume=True)] if more else []

    result = await bw.solve("q", ScriptedBackend(script), strategy=Throwaway(plan))
    assert [(b.parent, b.prefix_tokens) for b in result.paths] == [(None, 0), (0, 2), (1, 4)]
    assert [b.path.cut(3).key for b in result.paths[1:]] == [result.paths[1].path.cut(3).key] * 2


def test_passes_are_recorded_without_float_noise() -> None:
    usage = bw.Usage(forward_passes=0.1 + 0.2)
    record = bw.Result(None, None, {}, bw.Outcome.COMPLETE, usage).record()
    assert record["usage"]["forward_passes"] == 0.3


async def test_an_observer_sees_every_branch_and_the_standing() -> None:
    seen: list[bw.RunEvent] = []
    await bw.solve(
        "q", ScriptedBackend({"": ["The answer is 1."]}), strategy=bw.SelfConsistency(3), observer=seen.append
    )
    assert [e.branch for e in seen if isinstance(e, BranchStarted)] == [0, 1, 2]
    assert [(e.branch, e.kept) for e in seen if isinstance(e, BranchEnded)] == [(0, True), (1, True), (2, True)]
    standing = [e.decision.votes for e in seen if isinstance(e, Standing)]
    assert [sum(votes.values()) for votes in standing] == [1, 2, 3]


# Calling it


async def test_the_sync_call_works_inside_a_running_loop() -> None:
    result = bw.solve_sync("q", ScriptedBackend({"": ["The answer is 1."]}), strategy=bw.SelfConsistency(3))
    assert result.answer == "1"


async def test_messages_with_system_and_tools_reach_the_backend() -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    turns = (bw.Message(role="system", content="Be brief."), bw.Message(role="user", content="2 + 2?"))
    asked = bw.Messages(turns=turns, tools=(tool,), prefix="The")
    result = await bw.solve(asked, ScriptedBackend({"": [" answer is 4."]}), strategy=bw.SelfConsistency(1))
    messages = result.paths[0].path.root.messages
    assert messages is not None
    assert messages.turns[0].content.startswith("Be brief.\n\n")
    assert messages.tools == (tool,)
    assert result.paths[0].path.answer_text == "The answer is 4."
    assert result.answer == "4"


@pytest.mark.parametrize("question", ["", "  \n", bw.Messages(turns=())])
async def test_an_empty_question_is_refused(question: str | bw.Messages) -> None:
    with pytest.raises(bw.ConfigError, match="question"):
        await bw.solve(question, ONE)
