"""Backends with fewer capabilities: results without them, and the notes in the result."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

import branchwise as bw
from branchwise.backends.base import ExtendRequest
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.backends.stream import Extension
from branchwise.registry import STRATEGIES
from tests.support.throwaway import Log, Throwaway, once

FULL = bw.Capabilities(model="scripted", context=10_000)


TEXT = replace(FULL, token_in=False, token_out=False, logprobs=False, top_k_logprobs=0)
CLOSED = replace(TEXT, continues=False)


def backend(
    capabilities: bw.Capabilities, replies: Sequence[str | Reply] = ("One. Two. The answer is 1.",)
) -> ScriptedBackend:
    def reply(path: bw.Path, before: int) -> str | Reply:
        return replies[before % len(replies)] if not path.answer_text else " Later. The answer is 1."

    return ScriptedBackend(reply, capabilities=capabilities)


def notes(result: bw.Result, *words: str) -> bool:
    """Return whether each note contains one of the words, in order."""
    return len(result.degraded) == len(words) and all(w in n for w, n in zip(words, result.degraded, strict=True))


async def test_a_backend_with_all_capabilities_degrades_nothing() -> None:
    result = await bw.solve("q", backend(FULL), strategy=bw.PathConsistency(10))
    assert result.degraded == ()


@pytest.mark.parametrize(
    ("capabilities", "words"),
    [
        (replace(FULL, changes=("4-bit weights",)), "4-bit weights"),
        (replace(FULL, keyed=False), "the same seed may give other paths"),
        (replace(FULL, prefix_reuse=0), "keeps no prefixes"),
    ],
)
async def test_limits_of_the_backend_are_noted_once(capabilities: bw.Capabilities, words: str) -> None:
    assert notes(await bw.solve("q", backend(capabilities), strategy=bw.SelfConsistency(3)), words)


async def test_retokenization_is_noted_only_if_a_prefix_is_continued() -> None:
    capabilities = replace(FULL, token_in=False)
    assert notes(await bw.solve("q", backend(capabilities), strategy=bw.SelfConsistency(10)))
    continued = await bw.solve("q", backend(capabilities), strategy=bw.PathConsistency.plain(10))
    assert notes(continued, "tokenized again by the server")


async def test_unsupported_scores_do_not_reach_the_backend() -> None:
    strategy = once(lambda log: bw.Score(log.roots[0], ("a",)), lambda log: bw.Score(log.roots[0], ("b",)))
    result = await bw.solve("q", backend(replace(FULL, score=False)), strategy=strategy)
    assert all(isinstance(e, bw.Failed) and isinstance(e.error, bw.BackendError) for e in strategy.log.events)
    assert notes(result, "does not score")


async def test_alternatives_are_limited_to_those_the_backend_reports() -> None:
    asked: list[int] = []

    class Recording(ScriptedBackend):
        def extend(self, request: ExtendRequest) -> Extension:
            asked.append(request.sampling.logprobs)
            return super().extend(request)

    for capabilities, limit in ((replace(FULL, top_k_logprobs=5), 5), (replace(FULL, logprobs=False), 0), (FULL, 20)):
        strategy = once(lambda log: bw.Extend(log.roots[0], 2, bw.Sampling(logprobs=20)))
        recording = Recording({"": ["The answer is 1."]}, capabilities=capabilities)
        result = await bw.solve("q", recording, strategy=strategy)
        assert asked.pop() == limit
        assert notes(result, *(["20 alternatives"] if limit < 20 else []))


async def test_path_consistency_cuts_text_between_words() -> None:
    result = await bw.solve("q", backend(TEXT), strategy=bw.PathConsistency.plain(10))
    assert result.paths[0].steps == (1, 2, 6)
    assert [branch.prefix_tokens for branch in result.paths] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert result.paths[3].path.answer_text == "One. Later. The answer is 1."
    assert notes(result, "cut between words", "tokenized again")


async def test_path_consistency_without_continuation_votes() -> None:
    strategy = bw.PathConsistency(10, stop_at=None)
    result = await bw.solve("q", backend(CLOSED), strategy=strategy, allow_fallback=True)
    assert (result.answer, len(result.paths)) == ("1", 10)
    assert all(branch.path.parent is branch.path.root for branch in result.paths)
    assert all((branch.steps, branch.path.answer_text) == ((), "One. Two. The answer is 1.") for branch in result.paths)
    assert notes(result, "path-consistency: the server does not continue text", "shows no tokens")
    assert result.usage.sampled == 90


async def test_best_of_n_without_log_probabilities_is_the_majority() -> None:
    replies = ["The answer is 2.", "The answer is 1.", "The answer is 1."]
    result = await bw.solve("q", backend(replace(FULL, logprobs=False), replies), strategy=bw.BestOfN(3))
    assert (result.answer, result.votes) == ("1", {"1": 2, "2": 1})
    assert notes(result, "the majority answered")


async def test_best_of_n_needs_log_probabilities_but_no_token_ids() -> None:
    capabilities = replace(FULL, token_in=False, token_out=False)
    replies = [Reply("The answer is 1.", -0.5), Reply("The answer is 1.", -0.6), Reply("The answer is 2.", -0.1)]
    result = await bw.solve("q", backend(capabilities, replies), strategy=bw.BestOfN(3))
    assert (result.answer, result.votes) == ("2", {"1": 2, "2": 1})


async def test_progress_without_token_ids_counts_pieces_of_text() -> None:
    strategy = once(lambda log: bw.Extend(log.roots[0], watch_every=4))
    await bw.solve("q", backend(TEXT), strategy=strategy)
    progress = [e for e in strategy.log.events if isinstance(e, bw.Progress)]
    assert [(e.count, e.token_ids, e.logprobs) for e in progress] == [(4, (), ()), (8, (), ())]


async def test_progress_without_ids_counts_log_probabilities() -> None:
    capabilities = replace(FULL, token_out=False, token_in=False)
    strategy = once(lambda log: bw.Extend(log.roots[0], watch_every=4))
    await bw.solve("q", backend(capabilities, [Reply("One. Two. The answer is 1.", chunk=3)]), strategy=strategy)
    progress = [e for e in strategy.log.events if isinstance(e, bw.Progress)]
    assert [(e.count, len(e.logprobs)) for e in progress] == [(4, 4), (8, 4)]


async def test_a_text_path_can_be_resumed_step_by_step() -> None:
    def plan(log: Log) -> Sequence[bw.Action]:
        sampling = bw.Sampling(stop=(";",))
        if not log.requested:
            log.requested = 1
            return [bw.Extend(log.roots[0], sampling=sampling)]
        last = log.events[-1]
        if isinstance(last, bw.Finished) and last.path.stop_reason is bw.StopReason.STOP:
            return [bw.Extend(last.path, sampling=sampling, resume=True)]
        return []

    script = {"": ["step1; more"], "step1;": ["\nstep2; more"], "step1;\nstep2;": ["\nThe answer is 3."]}
    for capabilities in (FULL, TEXT):
        result = await bw.solve("q", ScriptedBackend(script, capabilities=capabilities), strategy=Throwaway(plan))
        texts = [branch.path.answer_text for branch in result.paths]
        assert texts == ["step1", "step1;\nstep2", "step1;\nstep2;\nThe answer is 3."]
        assert result.answer == "3"


async def test_a_branch_that_the_backend_cannot_stop_is_discarded() -> None:
    def plan(log: Log) -> Sequence[bw.Action]:
        if not log.requested:
            log.requested = 1
            return [bw.Extend(log.roots[0], 2, watch_every=2)]
        last = log.events[-1]
        return [bw.Cancel(0)] if isinstance(last, bw.Progress) and last.branch == 0 else []

    strategy = Throwaway(plan)
    result = await bw.solve("q", backend(replace(FULL, per_branch_cancel=False)), strategy=strategy)
    assert [branch.number for branch in result.paths] == [1]
    assert (result.usage.sampled, result.usage.discarded) == (18, 9)
    assert notes(result, "cannot stop one branch")


CONTINUING = {
    "path-consistency",
    "path-consistency-plain",
    "prefix-consistency",
    "beam",
    "dvts",
    "rebase",
    "particle",
    "mcts",
    "tot-bfs",
    "tot-dfs",
    "best-first",
    "adaptive-path-consistency:max_level=2",
    "best-of-n:step=line",
    "best-of-n:propose=true",
}


@pytest.mark.parametrize("name", sorted({*STRATEGIES, *CONTINUING}))
async def test_only_strategies_that_continue_paths_need_leave_to_vote(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    replies = ["One. The answer is 1.", "Two. The answer is 1.", "Three. The answer is 2."]
    if name in CONTINUING:
        with pytest.raises(bw.ConfigError, match=r"^strategy: .* continues paths.*--allow-fallback"):
            await bw.solve("q", backend(CLOSED, replies), strategy=name)
        assert not caplog.records
        result = await bw.solve("q", backend(CLOSED, replies), strategy=name, allow_fallback=True)
    else:
        result = await bw.solve("q", backend(CLOSED, replies), strategy=name)
    assert result.answer is not None
    assert result.answer.removesuffix(".").endswith("1")  # judges answer with a whole reply
    assert all(branch.prefix_chars == 0 for branch in result.paths)
    assert any("paths from the prompt voted instead" in note for note in result.degraded) is (name in CONTINUING)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * (name in CONTINUING)


async def test_the_default_strategy_needs_no_continuation() -> None:
    assert (await bw.solve("q", backend(CLOSED))).answer == "1"


@pytest.mark.parametrize(
    "strategy", [bw.PathConsistency(12, root_share=0.0), bw.AdaptivePathConsistency(12, max_level=2)]
)
async def test_a_backend_that_stops_continuing_costs_the_branches_under_way(
    strategy: bw.PathConsistency | bw.AdaptivePathConsistency,
) -> None:
    class Closing(ScriptedBackend):
        def extend(self, request: ExtendRequest) -> Extension:
            if request.path.parent is not None:
                raise bw.ContinuationError("the server began the turn again", hint="use another")
            return super().extend(request)

    def reply(path: bw.Path, before: int) -> str:
        return f"One. Two. The answer is {'12'[before % 4 == 3]}."

    result = await bw.solve("q", Closing(reply, capabilities=TEXT), strategy=replace(strategy, stop_at=None))
    assert result.answer == "1"
    assert 1 <= 12 - len(result.paths) <= strategy.window
    assert all(branch.prefix_chars == 0 for branch in result.paths)
    assert any("began the turn again" in error for error in result.errors)
