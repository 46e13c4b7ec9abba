"""Branches that break: they are retried as the same sample."""

import time
from collections.abc import Iterator, Sequence

import pytest

import branchwise as bw
from branchwise.answers.formats import Math
from branchwise.backends.base import ExtendRequest, Scores
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.backends.stream import Broken, Ended, Extension, Tokens
from branchwise.core.path import StopReason
from branchwise.core.usage import Usage
from branchwise.driver.branch import BranchTokens
from tests.support.throwaway import ended, once


def retryable(problem: str = "busy") -> bw.BackendError:
    return bw.BackendError(problem, retryable=True, hint="wait")


class Flaky(ScriptedBackend):
    """A keyed backend whose requests break. Every sample has the same text, wherever it is continued."""

    TEXT = "One two three four five. The answer is 7."

    def __init__(self, breaks: Iterator[int | None], withheld: int = 0) -> None:
        super().__init__({})
        self._breaks = breaks  # tokens until each request breaks
        self._withheld = withheld  # tokens whose text is withheld when a request breaks
        self.requests: list[ExtendRequest] = []

    def extend(self, request: ExtendRequest) -> Extension:
        self.requests.append(request)
        extension = Extension(len(request.keys), lambda _: None)
        for copy in range(len(request.keys)):
            self._deliver(extension, copy, request, next(self._breaks))
        return extension

    def _deliver(self, extension: Extension, copy: int, request: ExtendRequest, breaks: int | None) -> None:
        tokens = self.vocabulary.tokens(self.TEXT)[request.path.generated :]
        ends, delivered = self.vocabulary.ends(tokens), tokens if breaks is None else tokens[:breaks]
        for at, token in enumerate(delivered):
            withheld = breaks is not None and at >= len(delivered) - self._withheld
            text = self.vocabulary.decode((token,))
            if withheld:  # the first character may be safe to show
                text = text[:1] if at == len(delivered) - self._withheld else ""
            extension.deliver(Tokens(copy, (token,), text, (ends[at],), (-0.1,), None))
        given = len(request.path.all_token_ids())
        cost = Usage(prompt=given, prefilled=given, sampled=len(delivered))
        if breaks is None:
            extension.deliver(Ended(copy, StopReason.END, cost))
        else:
            extension.deliver(Broken(copy, retryable(), cost.lost()))


WHOLE = 11  # tokens of Flaky.TEXT


@pytest.mark.parametrize("breaks", [(4,), (0,), (4, 3), (0, 0), (WHOLE,)])
async def test_a_retry_continues_the_same_sample(breaks: tuple[int, ...]) -> None:
    steady, flaky = Flaky(iter([None])), Flaky(iter([*breaks, None]))
    strategies = [once(lambda log: bw.Extend(log.roots[0], watch_every=3)) for _ in range(2)]
    whole, again = [
        await bw.solve("q", backend, strategy=strategy)
        for backend, strategy in zip((steady, flaky), strategies, strict=True)
    ]
    assert not again.errors
    ours, theirs = again.paths[0].path, whole.paths[0].path
    assert (ours.token_ids, ours.text) == (theirs.token_ids, theirs.text)
    assert (ours.ends, ours.logprobs) == (theirs.ends, theirs.logprobs)
    assert [e.token_ids for e in strategies[1].log.events if isinstance(e, bw.Progress)] == [
        e.token_ids for e in strategies[0].log.events if isinstance(e, bw.Progress)
    ]
    assert len({request.keys for request in flaky.requests}) == 1
    assert (again.usage.sampled, again.usage.discarded) == (WHOLE, 0)
    assert again.usage.prompt == again.usage.prefilled > whole.usage.prompt


async def test_tokens_whose_text_was_lost_are_resampled_and_charged_twice() -> None:
    flaky = Flaky(iter([6, None]), withheld=2)
    strategy = once(lambda log: bw.Extend(log.roots[0], watch_every=5))
    result = await bw.solve("q", flaky, strategy=strategy)
    assert result.paths[0].path.text == Flaky.TEXT
    assert (result.usage.sampled, result.usage.discarded) == (WHOLE + 2, 2)
    assert flaky.requests[1].path.generated == 4
    progress = [e for e in strategy.log.events if isinstance(e, bw.Progress)]
    assert [e.count for e in progress] == [5, 10]
    assert [token for e in progress for token in e.token_ids] == list(result.paths[0].path.token_ids[:10])
    assert result.paths[0].path.ends == flaky.vocabulary.ends(result.paths[0].path.token_ids)


async def test_the_answer_after_a_thinking_budget_is_retried_too() -> None:
    task = bw.Task(name="t", format=Math(), thinking=bw.Thinking(budget=3, closing="</think>"))
    forced = 4  # tokens of the closing, which Flaky counts as a part of its text

    class Thinking(Flaky):
        def _deliver(self, extension: Extension, copy: int, request: ExtendRequest, breaks: int | None) -> None:
            if request.sampling.max_tokens != 3:
                super()._deliver(extension, copy, request, breaks)
                return
            tokens = self.vocabulary.tokens("One two three")
            for token, end in zip(tokens, self.vocabulary.ends(tokens), strict=True):
                extension.deliver(Tokens(copy, (token,), self.vocabulary.decode((token,)), (end,), (-0.1,), None))
            extension.deliver(Ended(copy, StopReason.LENGTH, Usage(prompt=1, prefilled=1, sampled=3)))

    flaky = Thinking(iter([None, 2, None]), withheld=1)
    result = await bw.solve("q", flaky, strategy=bw.Greedy(), task=task)
    answer = result.paths[0].path
    assert result.answer == "7"
    kept = 3 + len(answer.token_ids)
    assert len(answer.token_ids) == WHOLE - 3 - forced
    assert (result.usage.sampled, result.usage.discarded) == (kept + 1, 1)


async def test_a_branch_is_retried_twice_and_no_more() -> None:
    flaky = Flaky(iter([2, 2, 2, None]))
    result = await bw.solve("q", flaky, strategy=bw.Greedy())
    assert (len(flaky.requests), result.outcome) == (3, bw.Outcome.FAILED)
    assert (result.usage.sampled, result.usage.discarded) == (6, 6)


async def test_a_permanent_error_is_not_retried() -> None:
    backend = ScriptedBackend({"": [Reply("a b c", fail_after=1)], "a": ["x"]})
    result = await bw.solve("q", backend, strategy=bw.Greedy())
    assert (result.outcome, result.usage.sampled) == (bw.Outcome.FAILED, 1)


async def test_the_delay_before_a_retry_ends_with_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("branchwise.driver.branch.RETRY_DELAYS", (60.0,))
    began = time.monotonic()
    strategy = once(lambda log: bw.Extend(log.roots[0]))
    result = await bw.solve("q", Flaky(iter([4, None])), strategy=strategy, budget=bw.Budget(seconds=0.2))
    assert time.monotonic() - began < 3
    assert ended(strategy.log) == [(0, "cancelled")]
    assert (result.usage.sampled, result.usage.discarded) == (4, 4)


async def test_prompts_and_scores_are_retried_too() -> None:
    class Busy(ScriptedBackend):
        failures = 2

        def _fail(self) -> None:
            if self.failures:
                self.failures -= 1
                raise retryable()

        async def root(self, messages: bw.Messages, key: int) -> bw.Path:
            self._fail()
            return await super().root(messages, key)

        async def score(self, path: bw.Path, continuations: Sequence[str]) -> Scores:
            self._fail()
            return await super().score(path, continuations)

    backend = Busy({})
    strategy = once(lambda log: bw.Score(log.roots[0], ("x",)))
    assert not (await bw.solve("q", backend, strategy=strategy)).errors
    backend.failures = 1
    strategy = once(lambda log: bw.Score(log.roots[0], ("x",)))
    backend.failures = 0
    await bw.solve("q", backend, strategy=strategy)
    assert isinstance(strategy.log.events[0], bw.Scored)


def test_progress_chunks_span_the_segments_of_a_branch() -> None:
    root = bw.Path(None, 0, (9,), "")
    tokens, action = BranchTokens(root, 7), bw.Extend(root, watch_every=2)
    tokens.add(Tokens(0, (1, 2, 3), "abc", (1, 2, 3), (-0.1, -0.2, -0.3), None))
    progress = list(tokens.new_progress(0, action, 0))
    thoughts = tokens.path(None)
    tokens.begin_segment(thoughts)
    tokens.add(Tokens(0, (4, 5), "de", (1, 2), (-0.4, -0.5), None))
    progress += tokens.new_progress(0, action, 0)
    assert [(e.count, e.token_ids, e.logprobs) for e in progress] == [
        (2, (1, 2), (-0.1, -0.2)),
        (4, (3, 4), (-0.3, -0.4)),
    ]
    answer = tokens.path(StopReason.END)
    assert (answer.parent, answer.token_ids, answer.ends, answer.text) == (thoughts, (4, 5), (1, 2), "de")
    assert (thoughts.token_ids, thoughts.logprobs) == ((1, 2, 3), (-0.1, -0.2, -0.3))
