"""Order of events: it depends on the texts of the branches, never on timing or chunk sizes."""

import random
from collections.abc import Sequence

import pytest

import branchwise as bw
from branchwise.backends.base import ExtendRequest
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.backends.stream import Ended, Extension, Tokens
from branchwise.core.path import StopReason
from branchwise.core.usage import Usage
from branchwise.registry import STRATEGIES, make_strategy
from tests.support.throwaway import Log, Throwaway, ended, once

WORDS = 37  # tokens of a branch of `jittery`, before its answer


def jittery(seed: int) -> ScriptedBackend:
    """Return a backend of different branches whose timing and chunk sizes depend on the seed."""
    rng, numbers = random.Random(seed), iter(range(100))

    def reply(path: bw.Path, before: int) -> Reply:
        number = next(numbers)
        delay, chunk = rng.choice([0.0, 0.0, 0.001, 0.003]), rng.choice([1, 2, 3, 5, 8, 40])
        text = "word " * (WORDS - 4 * (number % 5)) + f"The answer is {number % 3}."
        return Reply(text, logprob=-0.1 * (1 + number % 4), delay=delay, chunk=chunk)

    return ScriptedBackend(reply)


class Impatient(Throwaway):
    """Cancels the improbable ones of ten branches after eight tokens, and requests five more at the first end."""

    def __init__(self) -> None:
        super().__init__(self._plan)

    def _plan(self, log: Log) -> Sequence[bw.Action]:
        if not log.requested:
            log.requested = 10
            return [bw.Extend(log.roots[0], 10, watch_every=4)]
        last = log.events[-1] if log.events else None
        if isinstance(last, bw.Progress) and last.count == 8 and sum(last.logprobs) < -1:
            return [bw.Cancel(last.branch)]
        if isinstance(last, bw.Finished) and log.requested == 10:
            log.requested = 15
            return [bw.Extend(log.roots[0], 5)]
        return []


def by_branch(log: Log) -> dict[int, list[tuple[object, ...]]]:
    """Return the events of each branch."""
    events: dict[int, list[tuple[object, ...]]] = {}
    for event in log.events:
        if isinstance(event, bw.Progress):
            events.setdefault(event.branch, []).append(("progress", event.count, event.token_ids, event.logprobs))
        elif isinstance(event, bw.Finished):
            events.setdefault(event.branch, []).append(("end", event.path.key, event.path.answer_text))
        elif isinstance(event, bw.Failed) and event.branch is not None:
            events.setdefault(event.branch, []).append(("failed", event.error))
    return events


async def play(seed: int) -> tuple[dict[int, list[tuple[object, ...]]], list[tuple[int | None, str]], bw.Result]:
    strategy = Impatient()
    result = await bw.solve("q", jittery(seed), strategy=strategy)
    return by_branch(strategy.log), ended(strategy.log), result


async def test_timing_and_chunk_sizes_change_no_event() -> None:
    events, ends, result = await play(0)
    assert [branch for branch, _ in ends] == list(range(15))
    assert {"cancelled", "kept"} == set(dict(ends).values())
    for seed in range(1, 12):
        again, ends_again, other = await play(seed)
        assert again == events
        assert ends_again == ends
        assert (other.answer, other.votes) == (result.answer, result.votes)
        assert [(b.number, b.path.key, b.path.answer_text) for b in other.paths] == [
            (b.number, b.path.key, b.path.answer_text) for b in result.paths
        ]
        kept = sum(len(branch.path.token_ids) for branch in other.paths)
        assert other.usage.sampled - other.usage.discarded == kept  # the number of discarded tokens depends on timing


@pytest.mark.parametrize("budget", [bw.Budget(), bw.Budget(tokens=333), bw.Budget(paths=13)])
@pytest.mark.parametrize("name", sorted(STRATEGIES))
async def test_timing_changes_no_result_of_any_strategy_or_budget(name: str, budget: bw.Budget) -> None:
    """Two questions in one run. Replies depend on the path, so that branches differ."""

    async def run(seed: int) -> list[tuple[object, ...]]:
        rng = random.Random(seed)

        def reply(path: bw.Path, before: int) -> Reply:
            text = f"Go {before}. Then {before}. " * (before % 3) + f"The answer is {before % 2}."
            gap = " " if path.generated else ""
            return Reply(gap + text, delay=rng.choice([0.0, 0.001, 0.004]), chunk=rng.choice([1, 2, 7, 30]))

        chosen = make_strategy(name, 10, bw.Sampling(max_tokens=40))
        results = await bw.solve_batch(["q", "r"], ScriptedBackend(reply), strategy=chosen, budget=budget)
        return [(r.record()["paths"], r.answer, r.votes, r.outcome, r.usage.sampled) for r in results]

    first = await run(0)
    for seed in range(1, 4):
        assert await run(seed) == first


async def test_completions_are_delivered_in_issue_order() -> None:
    delays = [0.05, 0.0, 0.03, 0.01]
    backend = ScriptedBackend({"": [Reply(f"The answer is {i}.", delay=d) for i, d in enumerate(delays)]})
    strategy = once(lambda log: bw.Extend(log.roots[0], 4))
    await bw.solve("q", backend, strategy=strategy)
    assert [e.branch for e in strategy.log.events if isinstance(e, bw.Finished)] == [0, 1, 2, 3]


async def test_a_finished_branch_behind_an_unfinished_one_counts() -> None:
    backend = ScriptedBackend({"": [Reply("never " * 1000, delay=0.05), "The answer is 1."]})
    result = await bw.solve("q", backend, strategy=bw.SelfConsistency(2), budget=bw.Budget(seconds=0.2))
    assert result.answer == "1"


@pytest.mark.parametrize("chunk", [1, 3, 4, 7, 100])
@pytest.mark.parametrize("every", [1, 4, 5, 10, 11])
async def test_progress_comes_at_exact_multiples_and_before_the_end(chunk: int, every: int) -> None:
    text = " ".join("abcdefghij")
    strategy = once(lambda log: bw.Extend(log.roots[0], sampling=bw.Sampling(logprobs=1), watch_every=every))
    await bw.solve("q", ScriptedBackend({"": [Reply(text, chunk=chunk)]}), strategy=strategy)
    *progress, end = strategy.log.events
    assert isinstance(end, bw.Finished)
    assert [e.count for e in progress if isinstance(e, bw.Progress)] == list(range(every, 11, every))
    seen = [token for e in progress if isinstance(e, bw.Progress) for token in e.token_ids]
    assert tuple(seen) == end.path.token_ids[: 10 // every * every]
    assert all(isinstance(e, bw.Progress) and len(e.logprobs) == len(e.top_logprobs) == every for e in progress)


class Burst(ScriptedBackend):
    """A backend that delivers all events of a request at once."""

    def extend(self, request: ExtendRequest) -> Extension:
        extension = Extension(len(request.keys), lambda _: None)
        for copy in reversed(range(len(request.keys))):
            tokens = self.vocabulary.tokens("The answer is 1.")
            ends = self.vocabulary.ends(tokens)
            extension.deliver(Tokens(copy, tokens, "The answer is 1.", ends, (-0.1,) * len(tokens), None))
            cost = Usage(prompt=3, prefilled=3, sampled=len(tokens))
            extension.deliver(Ended(copy, StopReason.END, cost))
        return extension


async def test_the_strategy_is_asked_after_every_event() -> None:
    asked: list[int] = []

    def plan(log: Log) -> Sequence[bw.Action]:
        asked.append(len(log.events))
        return [bw.Extend(log.roots[0], 5, watch_every=2)] if len(asked) == 1 else []

    await bw.solve("q", Burst({}), strategy=Throwaway(plan))
    assert asked == list(range(1 + 5 * 3))  # two chunks and an end for each branch


async def test_cancelling_an_ended_but_undelivered_branch_discards_it() -> None:
    def plan(log: Log) -> Sequence[bw.Action]:
        if not log.requested:
            log.requested = 1
            return [bw.Extend(log.roots[0], 2, watch_every=2)]
        last = log.events[-1]
        return [bw.Cancel(0)] if isinstance(last, bw.Progress) and (last.branch, last.count) == (0, 2) else []

    strategy = Throwaway(plan)
    result = await bw.solve("q", Burst({}), strategy=strategy)
    assert ended(strategy.log) == [(0, "cancelled"), (1, "kept")]
    assert [e.count for e in strategy.log.events if isinstance(e, bw.Progress) and e.branch == 0] == [2]
    assert [branch.number for branch in result.paths] == [1]
    assert (result.usage.sampled, result.usage.discarded) == (10, 5)
    assert not result.errors


async def test_cancelling_a_delivered_branch_does_nothing() -> None:
    def plan(log: Log) -> Sequence[bw.Action]:
        if not log.requested:
            log.requested = 1
            return [bw.Extend(log.roots[0])]
        return [bw.Cancel(0)]

    strategy = Throwaway(plan)
    result = await bw.solve("q", Burst({}), strategy=strategy)
    assert ended(strategy.log) == [(0, "kept")]
    assert (result.answer, result.usage.discarded) == ("1", 0)


async def test_a_branch_cancelled_before_it_started_costs_nothing() -> None:
    def plan(log: Log) -> Sequence[bw.Action]:
        if not log.requested:
            log.requested = 1
            return [bw.Extend(log.roots[0], 3), bw.Cancel(1)]
        return []

    strategy = Throwaway(plan)
    result = await bw.solve("q", Burst({}), strategy=strategy)
    assert ended(strategy.log) == [(0, "kept"), (1, "cancelled"), (2, "kept")]
    assert result.usage.sampled == 10


async def test_equal_questions_in_a_run_get_the_samples_they_get_alone() -> None:
    voting = bw.PathConsistency(10, stop_at=None)  # in windows
    alone = await bw.solve("q", Burst({}), strategy=voting)
    together = await bw.solve_batch(["q", "r", "q"], Burst({}), strategy=voting)
    keys = [[branch.path.key for branch in result.paths] for result in together]
    assert keys[0] == keys[2] == [branch.path.key for branch in alone.paths]
    assert len(set(keys[0])) == 10
    assert keys[1] != keys[0]


async def test_two_questions_may_share_one_prompt_path() -> None:
    class Sharing(Burst):
        shared: bw.Path | None = None

        async def root(self, messages: bw.Messages, key: int) -> bw.Path:
            self.shared = self.shared or await super().root(messages, key)
            return self.shared

    results = await bw.solve_batch(["q", "q"], Sharing({}), strategy=bw.SelfConsistency(2))
    assert [len(result.paths) for result in results] == [2, 2]


async def test_the_priority_of_an_action_reaches_the_backend() -> None:
    seen: list[int] = []

    class Listening(Burst):
        def extend(self, request: ExtendRequest) -> Extension:
            seen.append(request.priority)
            return super().extend(request)

    await bw.solve("q", Listening({}), strategy=once(lambda log: bw.Extend(log.roots[0], priority=7)))
    assert seen == [7]
