"""Budgets: refusals, leases, and the usage of branches that do not finish."""

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


async def test_timing_does_not_change_the_result_of_a_budget() -> None:
    results = []
    for delays in ([0.0] * 4, [0.004, 0.0, 0.002, 0.001]):
        replies = [Reply("a " * n + "The answer is 1.", delay=d) for n, d in zip((9, 2, 5, 1), delays, strict=True)]
        strategy = bw.SelfConsistency(12, bw.Sampling(max_tokens=20))
        result = await bw.solve("q", ScriptedBackend({"": replies}), strategy=strategy, budget=bw.Budget(tokens=50))
        results.append([(b.number, b.path.answer_text) for b in result.paths])
    assert results[0] == results[1]


@pytest.mark.parametrize(("field", "value"), [("tokens", 0), ("seconds", -1.0), ("paths", 0)])
def test_an_invalid_budget_raises(field: str, value: float) -> None:
    with pytest.raises(bw.ConfigError, match=f"budget_{field}"):
        bw.Budget(**{field: value})  # type: ignore[arg-type]


async def test_verifications_and_scores_go_on_after_the_budget_is_spent() -> None:
    judge = bw.Messages(turns=(bw.Message(role="user", content="judge this"),))

    def plan(log: Log) -> Sequence[bw.Action]:
        if not log.requested:
            log.requested = 1
            return [bw.Extend(log.roots[0], 4)]
        if len(log.events) == 4:
            first = log.events[0]
            assert isinstance(first, bw.Finished)
            path = first.path
            return [bw.Verify(path), bw.Score(path, (" yes",)), bw.Root(judge)]
        return []

    strategy = Throwaway(plan)
    budget = bw.Budget(paths=2)
    result = await bw.solve("q", one(), strategy=strategy, budget=budget, verifier=lambda path: 0.5)
    assert ended(strategy.log) == [(0, "kept"), (1, "kept"), (2, "BudgetError"), (3, "BudgetError")]
    assert [type(event) for event in strategy.log.events[4:]] == [bw.Verified, bw.Scored, bw.Rooted]
    assert (result.outcome, result.answer, result.errors) == (bw.Outcome.PATHS_SPENT, "1", ())


async def test_scored_tokens_are_counted_and_not_limited() -> None:
    strategy = once(lambda log: bw.Score(log.roots[0], ("a long continuation " * 20,)))
    result = await bw.solve("q", one(), strategy=strategy, budget=bw.Budget(tokens=10))
    assert result.usage.scored == 61
    assert result.outcome is bw.Outcome.NO_ANSWER


def window(log: Log) -> Sequence[bw.Action]:
    """Request five branches whenever none is active, without end."""
    if log.requested > len(log.events):
        return []
    log.requested += 5
    return [bw.Extend(log.roots[0], 5)]


def in_flight(log: Log) -> Sequence[bw.Action]:
    """Keep four branches active, without end."""
    wanted = 4 - (log.requested - len(log.events))
    log.requested += wanted
    return [bw.Extend(log.roots[0], wanted)] if wanted else []


@pytest.mark.parametrize("plan", [window, in_flight])
@pytest.mark.parametrize("budget", [bw.Budget(paths=7), bw.Budget(tokens=7 * 5)])
async def test_a_strategy_that_always_wants_more_ends_with_its_budget(plan: object, budget: bw.Budget) -> None:
    strategy = Throwaway(plan)  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        result = await bw.solve("q", one(), strategy=strategy, budget=budget)
    assert len(result.paths) == 7
    assert result.outcome is (bw.Outcome.PATHS_SPENT if budget.paths else bw.Outcome.TOKENS_SPENT)
    assert [what for _, what in ended(strategy.log)[:7]] == ["kept"] * 7
    assert len(strategy.log.events) == strategy.log.requested  # every branch has a completion
    error = next(e.error for e in strategy.log.events if isinstance(e, bw.Failed))
    assert isinstance(error, BudgetError)
    assert "raise it" in str(error)


async def test_refusals_of_one_question_do_not_end_the_work_of_another() -> None:
    """Question 0 requests branches without end; question 1 verifies its branch after a refusal."""

    def plan(log: Log) -> Sequence[bw.Action]:
        if not log.events:
            return [bw.Extend(log.roots[0], 2), bw.Extend(log.roots[1], 2)]
        last = log.events[-1]
        if isinstance(last, bw.Failed):
            return [bw.Extend(log.roots[0])] if last.question == 0 else [bw.Verify(log.roots[1])]
        return []

    strategy = Throwaway(plan)
    budget = bw.Budget(paths=1)
    async with asyncio.timeout(10):
        await bw.solve_batch(["a", "b"], one(), strategy=strategy, budget=budget, verifier=lambda path: 1.0)
    assert any(isinstance(event, bw.Verified) for event in strategy.log.events)


async def test_a_branch_cut_by_the_budget_has_the_outcome_tokens_spent() -> None:
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


async def test_the_rest_of_a_lease_starts_the_next_branch_at_once() -> None:
    replies: list[str | Reply] = [
        Reply("word " * 15 + "The answer is 1.", delay=0.01),
        "The answer is 2.",
        "The answer is 3.",
    ]
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
    """A backend that delivers three tokens and never an end."""

    def extend(self, request: ExtendRequest) -> Extension:
        extension = Extension(len(request.keys), lambda _: None)
        for copy in range(len(request.keys)):
            tokens = self.vocabulary.tokens("one two three")
            ends = self.vocabulary.ends(tokens)
            extension.deliver(Tokens(copy, tokens, "one two three", ends, (-0.1,) * len(tokens), None))
        return extension


async def test_a_backend_that_does_not_stop_is_abandoned_and_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "GRACE_SECONDS", 0.2)
    began = time.monotonic()
    result = await bw.solve("q", Stuck({}), strategy=bw.SelfConsistency(2), budget=bw.Budget(seconds=0.2))
    assert time.monotonic() - began < 3
    usage = result.usage
    assert (usage.sampled, usage.discarded, result.outcome) == (6, 6, bw.Outcome.SECONDS_SPENT)
    assert usage.prompt == usage.reused + usage.prefilled > 0


async def test_a_branch_abandoned_between_requests_is_charged_once(monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_usage_of_cancelled_and_failed_branches_adds_up() -> None:
    replies = [
        Reply("The answer is 1."),
        Reply("oh no " * 9, fail_after=7),
        Reply("word " * 300, delay=0.001),
        Reply("never " * 1000, delay=0.02),
    ]

    def plan(log: Log) -> Sequence[bw.Action]:
        if not log.requested:
            log.requested = 1
            return [bw.Extend(log.roots[0], 4, watch_every=5)]
        last = log.events[-1]
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
