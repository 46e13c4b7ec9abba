"""Making do with a backend that can do less: what still works, and what the result says of it."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from pydantic import BaseModel

import branchwise as bw
from branchwise.backends.base import ExtendRequest
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.backends.stream import Extension
from tests.support.throwaway import Log, Throwaway, once

FULL = bw.Capabilities(model="scripted", context=10_000)
TEXT = replace(FULL, token_in=False, token_out=False, logprobs=False, top_k_logprobs=0)


def backend(able: bw.Capabilities, replies: Sequence[str | Reply] = ("One. Two. The answer is 1.",)) -> ScriptedBackend:
    def reply(path: bw.Path, before: int) -> str | Reply:
        return replies[before % len(replies)] if not path.answer_text else " Later. The answer is 1."

    return ScriptedBackend(reply, capabilities=able)


def notes(result: bw.Result, *words: str) -> bool:
    """Whether there is one note for each of these words, and no other."""
    return len(result.degraded) == len(words) and all(w in n for w, n in zip(words, result.degraded, strict=True))


async def test_a_backend_that_can_do_it_all_degrades_nothing() -> None:
    result = await bw.solve("q", backend(FULL), strategy=bw.PathConsistency(10))
    assert result.degraded == ()


@pytest.mark.parametrize(
    ("able", "words"),
    [
        (replace(FULL, changes=("4-bit weights",)), "4-bit weights"),
        (replace(FULL, keyed=False), "the same seed may give other paths"),
        (replace(FULL, prefix_reuse=0), "keeps no prefixes"),
    ],
)
async def test_what_holds_for_every_run_is_noted_once(able: bw.Capabilities, words: str) -> None:
    assert notes(await bw.solve("q", backend(able), strategy=bw.SelfConsistency(3)), words)


async def test_prefixes_are_said_to_be_tokenized_again_only_where_one_is_continued() -> None:
    able = replace(FULL, token_in=False)
    assert notes(await bw.solve("q", backend(able), strategy=bw.SelfConsistency(10)))
    continued = await bw.solve("q", backend(able), strategy=bw.PathConsistency.plain(10))
    assert notes(continued, "tokenized again by the server")


async def test_scores_are_refused_without_asking_the_backend() -> None:
    strategy = once(lambda log: bw.Score(log.roots[0], ("a",)), lambda log: bw.Score(log.roots[0], ("b",)))
    result = await bw.solve("q", backend(replace(FULL, score=False)), strategy=strategy)
    assert all(isinstance(e, bw.Failed) and isinstance(e.error, bw.BackendError) for e in strategy.log.told)
    assert notes(result, "does not score")


async def test_alternatives_are_clipped_to_what_is_reported() -> None:
    asked: list[int] = []

    class Listening(ScriptedBackend):
        def extend(self, request: ExtendRequest) -> Extension:
            asked.append(request.sampling.logprobs)
            return super().extend(request)

    for able, most in ((replace(FULL, top_k_logprobs=5), 5), (replace(FULL, logprobs=False), 0), (FULL, 20)):
        strategy = once(lambda log: bw.Extend(log.roots[0], 2, bw.Sampling(logprobs=20)))
        listening = Listening({"": ["The answer is 1."]}, capabilities=able)
        result = await bw.solve("q", listening, strategy=strategy)
        assert asked.pop() == most
        assert notes(result, *(["20 alternatives"] if most < 20 else []))


async def test_path_consistency_without_tokens_is_self_consistency() -> None:
    result = await bw.solve("q", backend(TEXT), strategy=bw.PathConsistency(10, stop_at=None))
    assert (result.answer, len(result.paths)) == ("1", 10)
    assert all(branch.path.parent is branch.path.root for branch in result.paths)
    assert all((branch.steps, branch.path.answer_text) == ((), "One. Two. The answer is 1.") for branch in result.paths)
    assert notes(result, "shows no tokens", "can't be cut, so every path was drawn from the prompt")
    assert result.usage.sampled == 90


async def test_best_of_n_without_log_probabilities_is_the_majority() -> None:
    replies = ["The answer is 2.", "The answer is 1.", "The answer is 1."]
    result = await bw.solve("q", backend(replace(FULL, logprobs=False), replies), strategy=bw.BestOfN(3))
    assert (result.answer, result.votes) == ("1", {"1": 2, "2": 1})
    assert notes(result, "the majority answered")


async def test_log_probabilities_without_token_ids_are_enough_to_choose() -> None:
    able = replace(FULL, token_in=False, token_out=False)
    replies = [Reply("The answer is 1.", -0.5), Reply("The answer is 1.", -0.6), Reply("The answer is 2.", -0.1)]
    result = await bw.solve("q", backend(able, replies), strategy=bw.BestOfN(3))
    assert (result.answer, result.votes) == ("2", {"1": 2, "2": 1})


async def test_progress_without_tokens_counts_pieces_of_text() -> None:
    strategy = once(lambda log: bw.Extend(log.roots[0], watch_every=4))
    await bw.solve("q", backend(TEXT), strategy=strategy)
    progress = [e for e in strategy.log.told if isinstance(e, bw.Progress)]
    assert [(e.count, e.token_ids, e.logprobs) for e in progress] == [(4, (), ()), (8, (), ())]


async def test_progress_without_ids_counts_log_probabilities() -> None:
    able = replace(FULL, token_out=False, token_in=False)
    strategy = once(lambda log: bw.Extend(log.roots[0], watch_every=4))
    await bw.solve("q", backend(able, [Reply("One. Two. The answer is 1.", chunk=3)]), strategy=strategy)
    progress = [e for e in strategy.log.told if isinstance(e, bw.Progress)]
    assert [(e.count, len(e.logprobs)) for e in progress] == [(4, 4), (8, 4)]


async def test_a_text_path_can_be_resumed_step_by_step() -> None:
    def plan(log: Log) -> Sequence[bw.Action]:
        sampling = bw.Sampling(stop=(";",))
        if not log.asked:
            log.asked = 1
            return [bw.Extend(log.roots[0], sampling=sampling)]
        last = log.told[-1]
        if isinstance(last, bw.Finished) and last.path.stop_reason is bw.StopReason.STOP:
            return [bw.Extend(last.path, sampling=sampling, resume=True)]
        return []

    script = {"": ["step1; more"], "step1;": ["\nstep2; more"], "step1;\nstep2;": ["\nThe answer is 3."]}
    for able in (FULL, TEXT):
        result = await bw.solve("q", ScriptedBackend(script, capabilities=able), strategy=Throwaway(plan))
        texts = [branch.path.answer_text for branch in result.paths]
        assert texts == ["step1", "step1;\nstep2", "step1;\nstep2;\nThe answer is 3."]
        assert result.answer == "3"


async def test_a_branch_that_cannot_be_stopped_is_cancelled_all_the_same() -> None:
    def plan(log: Log) -> Sequence[bw.Action]:
        if not log.asked:
            log.asked = 1
            return [bw.Extend(log.roots[0], 2, watch_every=2)]
        last = log.told[-1]
        return [bw.Cancel(0)] if isinstance(last, bw.Progress) and last.branch == 0 else []

    strategy = Throwaway(plan)
    result = await bw.solve("q", backend(replace(FULL, per_branch_cancel=False)), strategy=strategy)
    assert [branch.number for branch in result.paths] == [1]
    assert (result.usage.sampled, result.usage.discarded) == (18, 9)
    assert notes(result, "cannot stop one branch")


# Answers with fields


class Point(BaseModel):
    x: int
    y: int


POINTS = ['{"x": 1, "y": 1}', '{"x": 1, "y": 2}', '{"x": 2, "y": 2}', '{"x": 1, "y": 1}']


def test_fields_are_voted_where_the_majority_decides() -> None:
    result = bw.solve_sync("q", backend(FULL, POINTS), strategy=bw.SelfConsistency(4), answer_type=Point)
    assert result.value == Point(x=1, y=1)
    assert result.confidence is not None


def test_a_strategy_that_chooses_another_answer_keeps_it_whole() -> None:
    replies = [Reply(text, logprob=-0.1 if "2, " in text else -0.9) for text in POINTS]
    result = bw.solve_sync("q", backend(FULL, replies), strategy=bw.BestOfN(4), answer_type=Point)
    assert result.value == Point(x=2, y=2)
    assert result.answer == '{"x":2,"y":2}'
    assert result.confidence is not None
    assert result.confidence < 0.5
