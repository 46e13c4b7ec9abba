"""Budgets: what they refuse, what they never lose, and whose they are."""

import asyncio
import time
from collections.abc import Sequence

import pytest

import branchwise as bw
from branchwise.answers.formats import Math
from branchwise.backends.base import ExtendRequest
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.backends.stream import Extension, Tokens
from branchwise.core.errors import BudgetError
from branchwise.driver import BranchEnded, BranchStarted, scheduler
from tests.support.throwaway import Log, Throwaway, ended, once


def one() -> ScriptedBackend:
    return ScriptedBackend({"": ["The answer is 1."]}, scores={" yes": -0.5})


async def test_a_spent_budget_lets_a_strategy_finish_its_judging() -> None:
    judge = bw.Messages(turns=(bw.Message(role="user", content="judge this"),))

    def plan(log: Log) -> Sequence[bw.Action]:
        if not log.asked:
            log.asked = 1
            return [bw.Extend(log.roots[0], 4)]
        if len(log.told) == 4:
            path = log.told[0].path
            return [bw.Verify(path), bw.Score(path, (" yes",)), bw.Root(judge)]
        return []

    strategy = Throwaway(plan)
    budget = bw.Budget(paths=2)
    result = await bw.solve("q", one(), strategy=strategy, budget=budget, verifier=lambda path: 0.5)
    assert ended(strategy.log) == [(0, "kept"), (1, "kept"), (2, "BudgetError"), (3, "BudgetError")]
    assert [type(event) for event in strategy.log.told[4:]] == [bw.Verified, bw.Scored, bw.Rooted]
    assert (result.outcome, result.answer, result.errors) == (bw.Outcome.PATHS_SPENT, "1", ())


async def test_scored_tokens_are_counted_and_not_limited() -> None:
    strategy = once(lambda log: bw.Score(log.roots[0], ("a long continuation " * 20,)))
    result = await bw.solve("q", one(), strategy=strategy, budget=bw.Budget(tokens=10))
    assert result.usage.scored == 61
    assert result.outcome is bw.Outcome.NO_ANSWER


def window(log: Log) -> Sequence[bw.Action]:
    """Five more whenever nothing is under way, forever."""
    if log.asked > len(log.told):
        return []
    log.asked += 5
    return [bw.Extend(log.roots[0], 5)]


def in_flight(log: Log) -> Sequence[bw.Action]:
    """Always four under way, forever."""
    wanted = 4 - (log.asked - len(log.told))
    log.asked += wanted
    return [bw.Extend(log.roots[0], wanted)] if wanted else []


@pytest.mark.parametrize("plan", [window, in_flight])
@pytest.mark.parametrize("budget", [bw.Budget(paths=7), bw.Budget(tokens=7 * 5)])
async def test_a_strategy_that_never_has_enough_ends_with_its_budget(plan: object, budget: bw.Budget) -> None:
    strategy = Throwaway(plan)  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        result = await bw.solve("q", one(), strategy=strategy, budget=budget)
    assert len(result.paths) == 7
    assert result.outcome is (bw.Outcome.PATHS_SPENT if budget.paths else bw.Outcome.TOKENS_SPENT)
    assert [what for _, what in ended(strategy.log)[:7]] == ["kept"] * 7
    assert len(strategy.log.told) == strategy.log.asked  # every branch that was asked for is answered
    error = next(e.error for e in strategy.log.told if isinstance(e, bw.Failed))
    assert isinstance(error, BudgetError)
    assert "raise it" in str(error)


async def test_the_last_of_a_batch_can_still_judge_when_the_first_wants_more() -> None:
    """Question 0 asks for branches without end; question 1 checks its branch once it is refused another."""

    def plan(log: Log) -> Sequence[bw.Action]:
        if not log.told:
            return [bw.Extend(log.roots[0], 2), bw.Extend(log.roots[1], 2)]
        last = log.told[-1]
        if isinstance(last, bw.Failed):
            return [bw.Extend(log.roots[0])] if last.question == 0 else [bw.Verify(log.roots[1])]
        return []

    strategy = Throwaway(plan)
    budget = bw.Budget(paths=1)
    async with asyncio.timeout(10):
        await bw.solve_batch(["a", "b"], one(), strategy=strategy, budget=budget, verifier=lambda path: 1.0)
    assert any(isinstance(event, bw.Verified) for event in strategy.log.told)


async def test_the_outcome_is_each_questions_own() -> None:
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


async def test_a_question_whose_strategy_wanted_more_is_not_complete() -> None:
    """A window ends behind another question's slow branch; what it would draw next is not drawn in time."""

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


async def test_a_branch_cut_by_the_last_tokens_is_said_to_be() -> None:
    strategy = bw.SelfConsistency(2, bw.Sampling(max_tokens=20))
    result = await bw.solve("q", one(), strategy=strategy, budget=bw.Budget(tokens=7))
    assert [len(branch.path.token_ids) for branch in result.paths] == [5, 2]
    assert result.outcome is bw.Outcome.TOKENS_SPENT


async def test_a_branch_cut_by_its_own_limit_is_complete() -> None:
    strategy = bw.SelfConsistency(2, bw.Sampling(max_tokens=6))
    backend = ScriptedBackend({"": ["The answer is 1. And so it goes."]})
    result = await bw.solve("q", backend, strategy=strategy, budget=bw.Budget(tokens=50))
    assert [branch.path.stop_reason for branch in result.paths] == [bw.StopReason.LENGTH] * 2
    assert (result.answer, result.outcome) == ("1", bw.Outcome.COMPLETE)


async def test_what_a_branch_gives_back_starts_the_next_one_at_once() -> None:
    replies = [Reply("word " * 15 + "The answer is 1.", delay=0.01), "The answer is 2.", "The answer is 3."]
    seen: list[tuple[str, int]] = []

    def observe(event: bw.RunEvent) -> None:
        if isinstance(event, BranchStarted | BranchEnded):
            seen.append((type(event).__name__, event.branch))

    strategy = bw.SelfConsistency(3, bw.Sampling(max_tokens=20))
    backend = ScriptedBackend({"": replies})
    result = await bw.solve("q", backend, strategy=strategy, budget=bw.Budget(tokens=50), observer=observe)
    assert len(result.paths) == 3
    assert seen.index(("BranchStarted", 2)) < seen.index(("BranchEnded", 0))


class Stuck(ScriptedBackend):
    """Delivers three tokens and never an end."""

    def extend(self, request: ExtendRequest) -> Extension:
        extension = Extension(len(request.keys), lambda _: None)
        for copy in range(len(request.keys)):
            tokens = self.vocabulary.tokens("one two three")
            ends = self.vocabulary.ends(tokens)
            extension.deliver(Tokens(copy, tokens, "one two three", ends, (-0.1,) * len(tokens), None))
        return extension


async def test_a_backend_that_does_not_stop_is_given_up_and_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "GRACE_SECONDS", 0.2)
    began = time.monotonic()
    result = await bw.solve("q", Stuck({}), strategy=bw.SelfConsistency(2), budget=bw.Budget(seconds=0.2))
    assert time.monotonic() - began < 3
    usage = result.usage
    assert (usage.sampled, usage.discarded, result.outcome) == (6, 6, bw.Outcome.SECONDS_SPENT)
    assert usage.prompt == usage.reused + usage.prefilled > 0


async def test_a_branch_given_up_between_two_requests_is_charged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unclosing(ScriptedBackend):
        async def force(self, path: bw.Path, text: str) -> bw.Path:
            await asyncio.sleep(60)
            return path

    monkeypatch.setattr(scheduler, "GRACE_SECONDS", 0.1)
    task = bw.Task(name="t", format=Math(), thinking=bw.Thinking(budget=3))
    backend = Unclosing({"": ["a b c d e"]})
    result = await bw.solve("q", backend, strategy=bw.Greedy(), task=task, budget=bw.Budget(seconds=0.2))
    assert (result.usage.sampled, result.usage.discarded) == (3, 3)
    assert result.usage.prompt == result.usage.reused + result.usage.prefilled


async def test_the_account_of_cancelled_failed_and_timed_out_branches_adds_up() -> None:
    replies = [
        Reply("The answer is 1."),
        Reply("oh no " * 9, fail_after=7),
        Reply("word " * 300, delay=0.001),
        Reply("never " * 1000, delay=0.02),
    ]

    def plan(log: Log) -> Sequence[bw.Action]:
        if not log.asked:
            log.asked = 1
            return [bw.Extend(log.roots[0], 4, watch_every=5)]
        last = log.told[-1]
        return [bw.Cancel(2)] if isinstance(last, bw.Progress) and (last.branch, last.count) == (2, 10) else []

    strategy = Throwaway(plan)
    result = await bw.solve("q", ScriptedBackend({"": replies}), strategy=strategy, budget=bw.Budget(seconds=1.5))
    usage = result.usage
    assert ended(strategy.log) == [(0, "kept"), (1, "BackendError"), (2, "cancelled"), (3, "cancelled")]
    assert usage.prompt == usage.reused + usage.prefilled == 4 * len(strategy.log.roots[0].token_ids)
    assert usage.sampled - usage.discarded == 5
    assert usage.discarded >= 7 + 10 + 1
    (branch,) = result.paths
    assert (branch.cost.sampled, branch.cost.discarded) == (5, 0)
