"""Results: usage, parents, records, and answers with fields."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

import branchwise as bw
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from tests.support.throwaway import Log, Throwaway


async def test_usage_adds_up() -> None:
    backend = ScriptedBackend({"": ["A b. C d. The answer is 1."], "A b.": [" C d. The answer is 1."]})
    result = await bw.solve("q", backend, strategy=bw.PathConsistency.plain(10))
    usage = result.usage
    assert usage.prompt == usage.reused + usage.prefilled
    assert usage.prompt == sum(len(b.path.root.token_ids) + b.prefix_tokens for b in result.paths)
    assert usage.sampled == sum(len(b.path.token_ids) for b in result.paths)
    assert usage.prefilled == len(result.paths[0].path.root.token_ids)  # nothing is computed twice
    assert usage.discarded == usage.drafted == usage.accepted == usage.scored == 0


async def test_without_an_answer_the_outcome_is_no_answer() -> None:
    result = await bw.solve("q", ScriptedBackend({"": ["I wonder."]}), strategy=bw.SelfConsistency(3))
    assert (result.answer, result.confidence, result.outcome) == (None, None, bw.Outcome.NO_ANSWER)


async def test_records_of_branches_contain_parent_and_segments() -> None:
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
    whole: dict[str, Any] = result.record()
    for branch, record in zip(result.paths, whole["paths"], strict=True):
        segments = record["segments"]
        assert tuple(t for s in segments for t in s["token_ids"]) == tuple(
            t for s in branch.path.segments() for t in s.token_ids
        )
        assert all(len(s["token_ids"]) == len(s["ends"]) == len(s["logprobs"]) for s in segments)
        assert [s["key"] for s in segments] == [f"{s.key:016x}" for s in branch.path.segments()]
        assert (record["parent"], record["prefix_tokens"]) == (branch.parent, branch.prefix_tokens)
        assert record["cost"]["sampled"] == len(branch.path.token_ids)
        assert record["stop_reason"] == "end"
    lean: dict[str, Any] = result.record(tokens=False)
    assert all("segments" not in record and record["text"] for record in lean["paths"])


async def test_each_step_of_a_resumed_path_has_the_step_before_as_parent() -> None:
    script = {"": ["A b. C d."], "A b": [". C d."], "A b. C": [" d."]}

    def plan(log: Log) -> Sequence[bw.Action]:
        sampling = bw.Sampling(max_tokens=2)
        if not log.events:
            return [bw.Extend(log.roots[0], sampling=sampling)]
        last = log.events[-1]
        if isinstance(last, bw.Finished) and last.path.stop_reason is bw.StopReason.LENGTH:
            return [bw.Extend(last.path, sampling=sampling, resume=True)]
        return []

    result = await bw.solve("q", ScriptedBackend(script), strategy=Throwaway(plan))
    assert [(b.parent, b.prefix_tokens) for b in result.paths] == [(None, 0), (0, 2), (1, 4)]
    assert [b.path.cut(3).key for b in result.paths[1:]] == [result.paths[1].path.cut(3).key] * 2


def test_passes_are_recorded_without_float_noise() -> None:
    usage = bw.Usage(forward_passes=0.1 + 0.2)
    record: dict[str, Any] = bw.Result(None, None, {}, bw.Outcome.COMPLETE, usage).record()
    assert record["usage"]["forward_passes"] == 0.3


# Answers with fields


class Point(BaseModel):
    x: int
    y: int


POINTS = ['{"x": 1, "y": 1}', '{"x": 1, "y": 2}', '{"x": 2, "y": 2}', '{"x": 1, "y": 1}']


def structured(replies: Sequence[str | Reply]) -> ScriptedBackend:
    return ScriptedBackend({"": list(replies)})


def test_fields_are_voted_on_if_the_majority_decides() -> None:
    result = bw.solve_sync("q", structured(POINTS), strategy=bw.SelfConsistency(4), answer_type=Point)
    assert result.value == Point(x=1, y=1)
    assert result.confidence is not None


def test_an_answer_chosen_against_the_majority_stays_whole() -> None:
    replies = [Reply(text, logprob=-0.1 if "2, " in text else -0.9) for text in POINTS]
    result = bw.solve_sync("q", structured(replies), strategy=bw.BestOfN(4), answer_type=Point)
    assert result.value == Point(x=2, y=2)
    assert result.answer == '{"x":2,"y":2}'
    assert result.confidence is not None
    assert result.confidence < 0.5
