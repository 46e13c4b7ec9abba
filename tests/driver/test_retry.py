"""What breaks for a reason that may pass is tried again, as the same sample."""

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
from tests.support.throwaway import ended, once


def passing(problem: str = "busy") -> bw.BackendError:
    return bw.BackendError(problem, retryable=True, hint="wait")


class Flaky(ScriptedBackend):
    """A keyed backend whose requests break: every sample says the same from wherever it is continued."""

    SAID = "One two three four five. The answer is 7."

    def __init__(self, breaks: Iterator[int | None], held: int = 0) -> None:
        super().__init__({})
        self._breaks = breaks  # tokens until each request breaks
        self._back = held  # tokens whose text is held back when it breaks
        self.requests: list[ExtendRequest] = []

    def extend(self, request: ExtendRequest) -> Extension:
        self.requests.append(request)
        extension = Extension(len(request.keys), lambda _: None)
        for copy in range(len(request.keys)):
            self._say(extension, copy, request, next(self._breaks))
        return extension

    def _say(self, extension: Extension, copy: int, request: ExtendRequest, breaks: int | None) -> None:
        tokens = self.vocabulary.tokens(self.SAID)[request.path.generated :]
        ends, spoken = self.vocabulary.ends(tokens), tokens if breaks is None else tokens[:breaks]
        for at, token in enumerate(spoken):
            held = breaks is not None and at >= len(spoken) - self._back
            text = self.vocabulary.spell((token,))
            if held:  # the first character may be safe to show
                text = text[:1] if at == len(spoken) - self._back else ""
            extension.deliver(Tokens(copy, (token,), text, (ends[at],), (-0.1,), None))
        given = len(request.path.all_token_ids())
        cost = Usage(prompt=given, prefilled=given, sampled=len(spoken))
        if breaks is None:
            extension.deliver(Ended(copy, StopReason.END, cost))
        else:
            extension.deliver(Broken(copy, passing(), cost.lost()))


WHOLE = 11  # tokens of what Flaky says


@pytest.mark.parametrize("breaks", [(4,), (0,), (4, 3), (0, 0), (WHOLE,)])
async def test_a_break_that_may_pass_is_continued_as_the_same_sample(breaks: tuple[int, ...]) -> None:
    calm, flaky = Flaky(iter([None])), Flaky(iter([*breaks, None]))
    strategies = [once(lambda log: bw.Extend(log.roots[0], watch_every=3)) for _ in range(2)]
    whole, again = [
        await bw.solve("q", backend, strategy=strategy)
        for backend, strategy in zip((calm, flaky), strategies, strict=True)
    ]
    assert not again.errors
    ours, theirs = again.paths[0].path, whole.paths[0].path
    assert (ours.token_ids, ours.text, ours.ends, ours.logprobs) == (
        theirs.token_ids, theirs.text, theirs.ends, theirs.logprobs,
    )  # fmt: skip
    assert [e.token_ids for e in strategies[1].log.told if isinstance(e, bw.Progress)] == [
        e.token_ids for e in strategies[0].log.told if isinstance(e, bw.Progress)
    ]
    assert len({request.keys for request in flaky.requests}) == 1
    assert (again.usage.sampled, again.usage.discarded) == (WHOLE, 0)
    assert again.usage.prompt == again.usage.prefilled > whole.usage.prompt


async def test_tokens_whose_text_was_lost_are_drawn_again_and_counted_twice() -> None:
    flaky = Flaky(iter([6, None]), held=2)
    strategy = once(lambda log: bw.Extend(log.roots[0], watch_every=5))
    result = await bw.solve("q", flaky, strategy=strategy)
    assert result.paths[0].path.text == Flaky.SAID
    assert (result.usage.sampled, result.usage.discarded) == (WHOLE + 2, 2)
    assert flaky.requests[1].path.generated == 4
    progress = [e for e in strategy.log.told if isinstance(e, bw.Progress)]
    assert [e.count for e in progress] == [5, 10]
    assert [token for e in progress for token in e.token_ids] == list(result.paths[0].path.token_ids[:10])
    assert result.paths[0].path.ends == flaky.vocabulary.ends(result.paths[0].path.token_ids)


async def test_an_answer_after_thoughts_is_tried_again_too() -> None:
    task = bw.Task(name="t", format=Math(), thinking=bw.Thinking(budget=3, closing="</think>"))
    forced = 4  # tokens of the closing, which the double takes for said

    class Thinking(Flaky):
        def _say(self, extension: Extension, copy: int, request: ExtendRequest, breaks: int | None) -> None:
            if request.sampling.max_tokens != 3:
                super()._say(extension, copy, request, breaks)
                return
            tokens = self.vocabulary.tokens("One two three")
            for token, end in zip(tokens, self.vocabulary.ends(tokens), strict=True):
                extension.deliver(Tokens(copy, (token,), self.vocabulary.spell((token,)), (end,), (-0.1,), None))
            extension.deliver(Ended(copy, StopReason.LENGTH, Usage(prompt=1, prefilled=1, sampled=3)))

    flaky = Thinking(iter([None, 2, None]), held=1)
    result = await bw.solve("q", flaky, strategy=bw.Greedy(), task=task)
    answer = result.paths[0].path
    assert result.answer == "7"
    kept = 3 + len(answer.token_ids)
    assert len(answer.token_ids) == WHOLE - 3 - forced
    assert (result.usage.sampled, result.usage.discarded) == (kept + 1, 1)


async def test_a_branch_is_tried_three_times_and_no_more() -> None:
    flaky = Flaky(iter([2, 2, 2, None]))
    result = await bw.solve("q", flaky, strategy=bw.Greedy())
    assert (len(flaky.requests), result.outcome) == (3, bw.Outcome.FAILED)
    assert (result.usage.sampled, result.usage.discarded) == (6, 6)


async def test_what_will_not_pass_is_not_tried_again() -> None:
    backend = ScriptedBackend({"": [Reply("a b c", fail_after=1)], "a": ["x"]})
    result = await bw.solve("q", backend, strategy=bw.Greedy())
    assert (result.outcome, result.usage.sampled) == (bw.Outcome.FAILED, 1)


async def test_the_pause_before_another_try_ends_with_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("branchwise.driver.branch.RETRY_DELAYS", (60.0,))
    began = time.monotonic()
    strategy = once(lambda log: bw.Extend(log.roots[0]))
    result = await bw.solve("q", Flaky(iter([4, None])), strategy=strategy, budget=bw.Budget(seconds=0.2))
    assert time.monotonic() - began < 3
    assert ended(strategy.log) == [(0, "cancelled")]
    assert (result.usage.sampled, result.usage.discarded) == (4, 4)


async def test_prompts_and_scores_are_tried_again_too() -> None:
    class Busy(ScriptedBackend):
        failures = 2

        def _fail(self) -> None:
            if self.failures:
                self.failures -= 1
                raise passing()

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
    assert isinstance(strategy.log.told[0], bw.Scored)
