"""Recorded branches are replayed exactly as they were sampled."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path as FilePath

import pytest

import branchwise as bw
from branchwise.backends.base import Backend, ExtendRequest
from branchwise.backends.engine.engine import Engine
from branchwise.backends.recorded.backend import RecordedBackend
from branchwise.backends.recorded.record import Record, RecordedText
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.backends.stream import BranchEvent, Ended, Extension, Tokens
from branchwise.core.usage import Usage
from branchwise.registry import STRATEGIES, make_strategy
from branchwise.search.tree import TreeSearch
from branchwise.strategies.strategy import AnyStrategy
from tests.support.branches import SAMPLING, generate, make_root

POOL_SAMPLING = bw.Sampling(max_tokens=60, logprobs=20)
REPLAYABLE = [
    "adaptive-consistency",
    "adaptive-consistency-dirichlet",
    "best-of-n",
    "blend-asc",
    "deepconf",
    "deepconf-online",
    "esc",
    "self-consistency",
    "weighted-best-of-n",
    "weighted-vote",
]
"""Strategies that sample from the prompt alone, with the pool's settings."""


def answers(path: bw.Path, before: int) -> Reply:
    """Return answers of different probability and length."""
    answer = "3131221311"[before % 10]
    return Reply(f"{'Well, ' * (before % 4)}so it goes. The answer is {answer}.", logprob=-0.1 * (1 + before % 3))


def recorder(inner: Backend, file: FilePath) -> RecordedBackend:
    return RecordedBackend(inner.capabilities, [], inner, Record(file))


def replay(like: Backend, *files: FilePath) -> RecordedBackend:
    return RecordedBackend(like.capabilities, [Record(file) for file in files])


def stable_parts(result: bw.Result) -> object:
    """Return the parts of a result that do not depend on the timing of cancellations."""
    usage = result.usage
    return (
        result.answer,
        result.confidence,
        result.votes,
        result.degraded,
        result.errors,
        result.record()["paths"],
        usage.sampled - usage.discarded,
        usage.scored,
    )


@pytest.mark.parametrize("name", REPLAYABLE)
def test_a_strategy_gives_the_same_result_from_a_pool_as_live(name: str, tmp_path: FilePath) -> None:
    file = tmp_path / "pool.jsonl"
    pooled = bw.solve_sync(
        "q", recorder(ScriptedBackend(answers), file), strategy=bw.SelfConsistency(40, POOL_SAMPLING)
    )
    assert len(pooled.paths) == 40
    chosen = make_strategy(name, 24, POOL_SAMPLING)
    live = bw.solve_sync("q", ScriptedBackend(answers), strategy=chosen)
    again = bw.solve_sync("q", replay(ScriptedBackend({}), file), strategy=chosen)
    assert stable_parts(again) == stable_parts(live)
    assert live.usage.sampled > 0


def test_every_strategy_that_a_pool_does_not_serve_fails_clearly(tmp_path: FilePath) -> None:
    file = tmp_path / "pool.jsonl"
    bw.solve_sync("q", recorder(ScriptedBackend(answers), file), strategy=bw.SelfConsistency(40, POOL_SAMPLING))
    searches = {name for name in STRATEGIES if isinstance(make_strategy(name, 4, POOL_SAMPLING), TreeSearch)}
    others = set(STRATEGIES) - set(REPLAYABLE) - (searches - set(REPLAYABLE))
    assert others == {
        "adaptive-path-consistency",
        "cisc",
        "greedy",
        "path-consistency",
        "path-consistency-plain",
        "judge",
        "prefix-consistency",
        "semantic-consistency",
        "universal-self-consistency",
    }
    lacking = {}
    for name in others:
        backend, live = replay(ScriptedBackend({}), file), ScriptedBackend(answers)
        again = bw.solve_sync("q", backend, strategy=make_strategy(name, 24, POOL_SAMPLING))
        whole = bw.solve_sync("q", live, strategy=make_strategy(name, 24, POOL_SAMPLING))
        lacking[name] = backend.lacks
        assert backend.lacks or stable_parts(again) == stable_parts(whole)
    assert (lacking["greedy"], lacking["prefix-consistency"], lacking["cisc"]) == ("a path", "a path", "a prompt")
    greedy = bw.solve_sync("q", replay(ScriptedBackend({}), file), strategy=make_strategy("greedy", 1, POOL_SAMPLING))
    assert greedy.outcome is bw.Outcome.FAILED
    assert "the record does not hold a path that the strategy requests; sample it live" in greedy.errors[0]


def test_a_real_engine_and_its_record_agree(tiny_engine: Engine, tmp_path: FilePath) -> None:
    """Path-consistency is included: its prefixes have keys of their own."""
    strategies: list[AnyStrategy] = [
        bw.PathConsistency(8, sampling=POOL_SAMPLING),
        bw.DeepConf(6, sampling=POOL_SAMPLING),
    ]
    for number, chosen in enumerate(strategies):
        file = tmp_path / f"{number}.jsonl"
        live = bw.solve_sync("q", recorder(tiny_engine, file), strategy=chosen)
        again = bw.solve_sync("q", replay(tiny_engine, file), strategy=chosen)
        assert stable_parts(again) == stable_parts(live)
        assert again.usage.prefilled == live.usage.prefilled
        assert sum(len(branch.path.token_ids) for branch in live.paths) > 60


def test_a_refused_prompt_is_refused_in_the_replay(tmp_path: FilePath) -> None:
    short = ScriptedBackend(answers, capabilities=bw.Capabilities(model="short", context=60))
    file, questions, strategy = tmp_path / "pool.jsonl", ["word " * 100, "q"], bw.SelfConsistency(2)
    long, fine = asyncio.run(bw.solve_batch(questions, recorder(short, file), strategy=strategy))
    again = asyncio.run(bw.solve_batch(questions, replay(short, file), strategy=strategy))
    assert (long.outcome, fine.outcome) == (bw.Outcome.FAILED, bw.Outcome.COMPLETE)
    assert "its prompt is" in long.errors[0]
    assert [(r.outcome, r.errors, r.votes) for r in again] == [(r.outcome, r.errors, r.votes) for r in (long, fine)]


class RaisingExtension(Extension):
    """Request whose iteration raises when the first branch ends."""

    async def __anext__(self) -> BranchEvent:
        event = await super().__anext__()
        if isinstance(event, Ended):
            raise LookupError("bug")
        return event


class RaisingBackend(ScriptedBackend):
    def extend(self, request: ExtendRequest) -> Extension:
        extension = super().extend(request)
        extension.__class__ = RaisingExtension
        return extension


async def test_a_bug_of_the_inner_backend_breaks_every_branch(tmp_path: FilePath) -> None:
    backend = recorder(RaisingBackend(answers), tmp_path / "pool.jsonl")
    result = await asyncio.wait_for(bw.solve("q", backend, strategy=bw.SelfConsistency(3)), 60)
    assert result.outcome is bw.Outcome.FAILED
    assert "LookupError: bug" in result.errors[0]


async def test_a_branch_that_cannot_be_encoded_breaks(tmp_path: FilePath) -> None:
    """A lone surrogate has no UTF-8 encoding."""
    backend = recorder(ScriptedBackend({"": ["Oh \ud83d. The answer is 1."]}), tmp_path / "pool.jsonl")
    result = await asyncio.wait_for(bw.solve("q", backend, strategy=bw.SelfConsistency(3)), 60)
    assert result.outcome is bw.Outcome.FAILED
    assert "UnicodeEncodeError" in result.errors[0]


def test_missing_branches_are_sampled_and_recorded(tmp_path: FilePath) -> None:
    file = tmp_path / "pool.jsonl"
    bw.solve_sync("q", recorder(ScriptedBackend(answers), file), strategy=bw.SelfConsistency(4, POOL_SAMPLING))
    requested: list[int] = []

    def count(path: bw.Path, before: int) -> Reply:
        requested.append(before)
        return answers(path, before + 4)

    backend = recorder(ScriptedBackend(count), file)
    result = bw.solve_sync("q", backend, strategy=bw.SelfConsistency(6, POOL_SAMPLING))
    assert len(requested) == 2
    whole = bw.solve_sync("q", ScriptedBackend(answers), strategy=bw.SelfConsistency(6, POOL_SAMPLING))
    assert (result.votes, [path.text for path in _paths(result)]) == (whole.votes, [p.text for p in _paths(whole)])
    assert list(backend.replayed.values()) == [4]
    again = bw.solve_sync("q", replay(ScriptedBackend({}), file), strategy=bw.SelfConsistency(6, POOL_SAMPLING))
    assert again.votes == whole.votes


def _paths(result: bw.Result) -> Sequence[bw.Path]:
    return [branch.path for branch in result.paths]


async def test_a_cancelled_replay_counts_its_delivered_tokens(tmp_path: FilePath) -> None:
    file = tmp_path / "pool.jsonl"
    backend = recorder(ScriptedBackend({"": ["word " * 100]}), file)
    root = await make_root(backend)
    await generate(backend, root, [5])
    extension = replay(backend, file).extend(ExtendRequest(root, (5,), SAMPLING))
    delivered = 0
    async for event in extension:
        if isinstance(event, Tokens):
            delivered += event.count
            extension.cancel(0)
        elif isinstance(event, Ended):
            assert event.stop_reason is bw.StopReason.CANCELLED
            assert event.cost == Usage(
                prompt=len(root.token_ids),
                prefilled=event.cost.prefilled,
                reused=event.cost.reused,
                sampled=delivered,
                discarded=delivered,
                forward_passes=event.cost.forward_passes,
            )
    assert 0 < delivered < 24


async def test_a_branch_is_replayed_for_the_same_sampling_only(tmp_path: FilePath) -> None:
    file = tmp_path / "pool.jsonl"
    backend = recorder(ScriptedBackend({"": ["word " * 100]}), file)
    root = await make_root(backend)
    await generate(backend, root, [5], bw.Sampling(max_tokens=10))
    for sampling, is_recorded in (
        (bw.Sampling(max_tokens=10), True),
        (bw.Sampling(max_tokens=10, temperature=0.2), False),
        (bw.Sampling(max_tokens=10, stop=("x",)), False),
        (bw.Sampling(max_tokens=11), False),  # the recorded branch ended at its limit
        (bw.Sampling(max_tokens=10, logprobs=2), False),  # no alternatives were recorded
    ):
        try:
            replay(backend, file).extend(ExtendRequest(root, (5,), sampling))
        except bw.BackendError:
            assert not is_recorded, sampling
        else:
            assert is_recorded, sampling


def test_an_incomplete_last_line_is_ignored_and_replaced(tmp_path: FilePath) -> None:
    file = tmp_path / "pool.jsonl"
    bw.solve_sync("q", recorder(ScriptedBackend(answers), file), strategy=bw.SelfConsistency(3, POOL_SAMPLING))
    whole = file.read_bytes()
    for cut in (1, 40, len(whole.splitlines()[-1])):
        file.write_bytes(whole[:-cut])
        record = Record(file)
        assert len(record) == len(whole.splitlines()) - 1
        bw.solve_sync("q", recorder(ScriptedBackend(answers), file), strategy=bw.SelfConsistency(3, POOL_SAMPLING))
        assert len(file.read_bytes().splitlines()) == len(whole.splitlines())
        assert all(json.loads(line) for line in file.read_bytes().splitlines())


def test_an_invalid_file_is_refused_by_its_line(tmp_path: FilePath) -> None:
    file = tmp_path / "notes.jsonl"
    file.write_text('{"name": "root:1", "entry": {"token_ids": [1]}}\nhello\n')
    with pytest.raises(bw.ConfigError, match="line 2, is not an entry"):
        Record(file)
    file.write_text('{"name": "root:1", "entry": {"token_ids": "x"}}\n')
    with pytest.raises(bw.ConfigError, match=r"notes.jsonl: the line of root:1 is of another version; delete"):
        Record(file).get("root:1", RecordedText)
    for broken in (b'{"name": "root:1\n', b'{"name": "\xff\xfe"}\n', b'{"name": ""}\n'):
        file.write_bytes(broken)
        with pytest.raises(bw.ConfigError, match="line 1, is not an entry of a record; delete it"):
            Record(file)


def test_a_damaged_line_is_ignored_and_sampled_again(tmp_path: FilePath) -> None:
    file = tmp_path / "pool.jsonl"
    strategy = bw.SelfConsistency(6, POOL_SAMPLING)
    whole = bw.solve_sync("q", recorder(ScriptedBackend(answers), file), strategy=strategy)
    good = file.read_bytes()
    lines = good.splitlines(keepends=True)
    lost = json.loads(lines[3])["entry"]["text"]
    flipped = lines[3].replace(b'"text": "', b'"text": "!')  # another text would be a wrong branch
    for damaged in (lines[3][:-40] + b"\n", flipped, lines[3][1:], b"\0" * 50 + b"\n"):
        file.write_bytes(b"".join([*lines[:3], damaged, *lines[4:]]))
        pool = replay(ScriptedBackend({}), file)
        bw.solve_sync("q", pool, strategy=strategy)
        assert pool.lacks == "a path"
        again = recorder(ScriptedBackend({"": [lost]}), file)
        repaired = bw.solve_sync("q", again, strategy=strategy)
        assert (repaired.votes, again.failure, again.replayed.total()) == (whole.votes, None, 5)
        assert file.read_bytes().startswith(b"".join([*lines[:3], damaged, *lines[4:]]))
        assert json.loads(file.read_bytes().splitlines()[-1])["name"] == json.loads(lines[3])["name"]
        complete = replay(ScriptedBackend({}), file)
        assert bw.solve_sync("q", complete, strategy=strategy).votes == whole.votes


def test_a_first_line_with_a_damaged_checksum_is_no_error(tmp_path: FilePath) -> None:
    """Without its checksum it looks like a line of an earlier version."""
    file = tmp_path / "pool.jsonl"
    record = Record(file)
    for name in ("root:1", "root:2"):
        record.put(name, RecordedText(token_ids=(1,), ends=(1,)))
    whole = file.read_bytes()
    for place in range(whole.index(b', "crc32"'), whole.index(b"\n")):
        file.write_bytes(whole[:place] + b"\x00" + whole[place + 1 :])
        record = Record(file)
        assert record.get("root:2", RecordedText) is not None
        if record.get("root:1", RecordedText) is None:
            record.put("root:1", RecordedText(token_ids=(1,), ends=(1,)))
            assert Record(file).get("root:1", RecordedText) is not None


def test_lines_of_earlier_versions_have_no_checksums(tmp_path: FilePath) -> None:
    file = tmp_path / "pool.jsonl"
    file.write_text('{"name": "root:1", "entry": {"token_ids": [1], "ends": [1]}}\n')
    Record(file).put("root:2", RecordedText(token_ids=(2,), ends=(1,)))
    record = Record(file)
    found = [record.get(name, RecordedText) for name in ("root:1", "root:2")]
    assert [one and one.token_ids for one in found] == [(1,), (2,)]


async def test_a_cancelled_branch_is_not_recorded(tmp_path: FilePath) -> None:
    file = tmp_path / "pool.jsonl"
    backend = recorder(ScriptedBackend({"": ["word " * 100]}), file)
    root = await make_root(backend)
    extension = backend.extend(ExtendRequest(root, (5, 6), SAMPLING))
    async for event in extension:
        if isinstance(event, Tokens):
            extension.cancel(0)
    names = [json.loads(line)["name"].split(":")[:2] for line in file.read_text().splitlines()]
    assert names == [["root", f"{root.key:016x}"], ["branch", f"{6:016x}"]]


async def test_a_key_names_another_sample_after_each_prefix_length(tmp_path: FilePath) -> None:
    """A step that ends inside a number is continued under the same key."""
    file = tmp_path / "pool.jsonl"
    backend = recorder(ScriptedBackend(lambda path, before: "so " * 9 if path.generated else "word " * 9), file)
    root = await make_root(backend)
    (first,) = await generate(backend, root, [5], bw.Sampling(max_tokens=4))
    (second,) = await generate(backend, first.path, [5], bw.Sampling(max_tokens=4))
    assert len(Record(file)) == 3
    again = replay(backend, file)
    (one,) = await generate(again, root, [5], bw.Sampling(max_tokens=4))
    (two,) = await generate(again, first.path, [5], bw.Sampling(max_tokens=4))
    assert (one.path.token_ids, two.path.token_ids) == (first.path.token_ids, second.path.token_ids)


def test_a_full_disk_keeps_the_answer_and_is_reported(tmp_path: FilePath) -> None:
    record = Record(tmp_path / "pool.jsonl")
    record.file.symlink_to("/dev/full")
    backend = RecordedBackend(ScriptedBackend({}).capabilities, [], ScriptedBackend(answers), record)
    result = bw.solve_sync("q", backend, strategy=bw.SelfConsistency(3, POOL_SAMPLING))
    assert len(result.paths) == 3
    assert "No space left on device" in str(backend.failure)
