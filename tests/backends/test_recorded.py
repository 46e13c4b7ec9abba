"""Records: what was drawn once answers again, exactly as it did."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path as FilePath

import pytest

import branchwise as bw
from branchwise.backends.base import Backend, ExtendRequest
from branchwise.backends.engine.engine import Engine
from branchwise.backends.recorded.backend import RecordedBackend
from branchwise.backends.recorded.record import Record, Spelled
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.backends.stream import BranchEvent, Ended, Extension, Tokens
from branchwise.core.usage import Usage
from branchwise.registry import STRATEGIES, strategy
from branchwise.search.tree_search import TreeSearch
from tests.support.lab import HOT, ask, grow

SAMPLING = bw.Sampling(max_tokens=60, logprobs=20)
REPLAYABLE = [
    "adaptive-consistency", "adaptive-consistency-dirichlet", "best-of-n", "blend-asc", "deepconf", "deepconf-online",
    "esc", "self-consistency", "weighted-best-of-n", "weighted-vote",
]  # fmt: skip
"""Those that draw from the prompt alone, with the pool's own settings."""


def answers(path: bw.Path, before: int) -> Reply:
    """Some answers, some more probable than others, some long."""
    said = "3131221311"[before % 10]
    return Reply(f"{'Well, ' * (before % 4)}so it goes. The answer is {said}.", logprob=-0.1 * (1 + before % 3))


def recorder(inner: Backend, file: FilePath) -> RecordedBackend:
    return RecordedBackend(inner.capabilities, [], inner, Record(file))


def replay(like: Backend, *files: FilePath) -> RecordedBackend:
    return RecordedBackend(like.capabilities, [Record(file) for file in files])


def kept(result: bw.Result) -> object:
    """All of a result that does not depend on when something was noticed."""
    usage = result.usage
    return (
        result.answer, result.confidence, result.votes, result.degraded, result.errors,
        result.record()["paths"], usage.sampled - usage.discarded, usage.scored,
    )  # fmt: skip


@pytest.mark.parametrize("name", REPLAYABLE)
def test_a_strategy_gets_from_a_pool_what_it_gets_live(name: str, tmp_path: FilePath) -> None:
    file = tmp_path / "pool.jsonl"
    pooled = bw.solve_sync("q", recorder(ScriptedBackend(answers), file), strategy=bw.SelfConsistency(40, SAMPLING))
    assert len(pooled.paths) == 40
    chosen = strategy(name, 24, SAMPLING)
    live = bw.solve_sync("q", ScriptedBackend(answers), strategy=chosen)
    again = bw.solve_sync("q", replay(ScriptedBackend({}), file), strategy=chosen)
    assert kept(again) == kept(live)
    assert live.usage.sampled > 0


def test_every_strategy_that_is_not_replayable_says_so(tmp_path: FilePath) -> None:
    file = tmp_path / "pool.jsonl"
    bw.solve_sync("q", recorder(ScriptedBackend(answers), file), strategy=bw.SelfConsistency(40, SAMPLING))
    searches = {name for name in STRATEGIES if isinstance(strategy(name, 4, SAMPLING), TreeSearch)}
    others = set(STRATEGIES) - set(REPLAYABLE) - (searches - set(REPLAYABLE))
    assert others == {
        "adaptive-path-consistency", "cisc", "greedy", "path-consistency", "path-consistency-plain",
        "prefix-consistency",
    }  # fmt: skip
    lacking = {}
    for name in others:
        backend, live = replay(ScriptedBackend({}), file), ScriptedBackend(answers)
        again = bw.solve_sync("q", backend, strategy=strategy(name, 24, SAMPLING))
        whole = bw.solve_sync("q", live, strategy=strategy(name, 24, SAMPLING))
        lacking[name] = backend.lacks
        assert backend.lacks or kept(again) == kept(whole)
    assert (lacking["greedy"], lacking["prefix-consistency"], lacking["cisc"]) == ("a path", "a path", "a prompt")
    greedy = bw.solve_sync("q", replay(ScriptedBackend({}), file), strategy=strategy("greedy", 1, SAMPLING))
    assert greedy.outcome is bw.Outcome.FAILED
    assert "the record does not hold a path that the strategy asks for; draw it live" in greedy.errors[0]


def test_a_real_engine_and_its_record_agree(tiny_engine: Engine, tmp_path: FilePath) -> None:
    """Path-consistency, too: its prefixes have keys of their own."""
    for number, chosen in enumerate([bw.PathConsistency(8, sampling=SAMPLING), bw.DeepConf(6, sampling=SAMPLING)]):
        file = tmp_path / f"{number}.jsonl"
        live = bw.solve_sync("q", recorder(tiny_engine, file), strategy=chosen)
        again = bw.solve_sync("q", replay(tiny_engine, file), strategy=chosen)
        assert kept(again) == kept(live)
        assert again.usage.prefilled == live.usage.prefilled
        assert sum(len(branch.path.token_ids) for branch in live.paths) > 60


def test_a_prompt_that_was_refused_is_refused_again(tmp_path: FilePath) -> None:
    short = ScriptedBackend(answers, capabilities=bw.Capabilities(model="short", context=60))
    file, questions, strategy = tmp_path / "pool.jsonl", ["word " * 100, "q"], bw.SelfConsistency(2)
    long, fine = asyncio.run(bw.solve_batch(questions, recorder(short, file), strategy=strategy))
    again = asyncio.run(bw.solve_batch(questions, replay(short, file), strategy=strategy))
    assert (long.outcome, fine.outcome) == (bw.Outcome.FAILED, bw.Outcome.COMPLETE)
    assert "its prompt is" in long.errors[0]
    assert [(r.outcome, r.errors, r.votes) for r in again] == [(r.outcome, r.errors, r.votes) for r in (long, fine)]


class Torn(Extension):
    """Breaks off where the first branch ends."""

    async def __anext__(self) -> BranchEvent:
        event = await super().__anext__()
        if isinstance(event, Ended):
            raise LookupError("torn")
        return event


class Tearing(ScriptedBackend):
    def extend(self, request: ExtendRequest) -> Extension:
        extension = super().extend(request)
        extension.__class__ = Torn
        return extension


async def test_a_bug_of_the_backend_behind_ends_every_branch(tmp_path: FilePath) -> None:
    backend = recorder(Tearing(answers), tmp_path / "pool.jsonl")
    result = await asyncio.wait_for(bw.solve("q", backend, strategy=bw.SelfConsistency(3)), 60)
    assert result.outcome is bw.Outcome.FAILED
    assert "LookupError: torn" in result.errors[0]


async def test_a_branch_that_cannot_be_written_down_ends(tmp_path: FilePath) -> None:
    """Half a character (a surrogate alone) is no UTF-8."""
    backend = recorder(ScriptedBackend({"": ["Oh \ud83d. The answer is 1."]}), tmp_path / "pool.jsonl")
    result = await asyncio.wait_for(bw.solve("q", backend, strategy=bw.SelfConsistency(3)), 60)
    assert result.outcome is bw.Outcome.FAILED
    assert "UnicodeEncodeError" in result.errors[0]


def test_what_a_record_lacks_is_drawn_and_recorded(tmp_path: FilePath) -> None:
    file = tmp_path / "pool.jsonl"
    bw.solve_sync("q", recorder(ScriptedBackend(answers), file), strategy=bw.SelfConsistency(4, SAMPLING))
    asked: list[int] = []

    def count(path: bw.Path, before: int) -> Reply:
        asked.append(before)
        return answers(path, before + 4)

    backend = recorder(ScriptedBackend(count), file)
    result = bw.solve_sync("q", backend, strategy=bw.SelfConsistency(6, SAMPLING))
    assert len(asked) == 2
    whole = bw.solve_sync("q", ScriptedBackend(answers), strategy=bw.SelfConsistency(6, SAMPLING))
    assert (result.votes, [path.text for path in _paths(result)]) == (whole.votes, [p.text for p in _paths(whole)])
    assert list(backend.replayed.values()) == [4]
    again = bw.solve_sync("q", replay(ScriptedBackend({}), file), strategy=bw.SelfConsistency(6, SAMPLING))
    assert again.votes == whole.votes


def _paths(result: bw.Result) -> Sequence[bw.Path]:
    return [branch.path for branch in result.paths]


async def test_a_replayed_branch_can_be_stopped_and_costs_what_was_told(tmp_path: FilePath) -> None:
    file = tmp_path / "pool.jsonl"
    backend = recorder(ScriptedBackend({"": ["word " * 100]}), file)
    root = await ask(backend)
    await grow(backend, root, [5])
    extension = replay(backend, file).extend(ExtendRequest(root, (5,), HOT))
    told = 0
    async for event in extension:
        if isinstance(event, Tokens):
            told += event.count
            extension.cancel(0)
        elif isinstance(event, Ended):
            assert event.stop_reason is bw.StopReason.CANCELLED
            assert event.cost == Usage(
                prompt=len(root.token_ids), prefilled=event.cost.prefilled, reused=event.cost.reused, sampled=told,
                discarded=told, forward_passes=event.cost.forward_passes,
            )  # fmt: skip
    assert 0 < told < 24


async def test_other_sampling_is_another_sample(tmp_path: FilePath) -> None:
    file = tmp_path / "pool.jsonl"
    backend = recorder(ScriptedBackend({"": ["word " * 100]}), file)
    root = await ask(backend)
    await grow(backend, root, [5], bw.Sampling(max_tokens=10))
    for sampling, held in (
        (bw.Sampling(max_tokens=10), True),
        (bw.Sampling(max_tokens=10, temperature=0.2), False),
        (bw.Sampling(max_tokens=10, stop=("x",)), False),
        (bw.Sampling(max_tokens=11), False),  # ten tokens were the limit, not the end
        (bw.Sampling(max_tokens=10, logprobs=2), False),  # no alternatives were recorded
    ):
        try:
            replay(backend, file).extend(ExtendRequest(root, (5,), sampling))
        except bw.BackendError:
            assert not held, sampling
        else:
            assert held, sampling


def test_a_half_written_last_line_is_no_entry(tmp_path: FilePath) -> None:
    file = tmp_path / "pool.jsonl"
    bw.solve_sync("q", recorder(ScriptedBackend(answers), file), strategy=bw.SelfConsistency(3, SAMPLING))
    whole = file.read_bytes()
    for cut in (1, 40, len(whole.splitlines()[-1])):
        file.write_bytes(whole[:-cut])
        record = Record(file)
        assert len(record) == len(whole.splitlines()) - 1
        bw.solve_sync("q", recorder(ScriptedBackend(answers), file), strategy=bw.SelfConsistency(3, SAMPLING))
        assert len(file.read_bytes().splitlines()) == len(whole.splitlines())
        assert all(json.loads(line) for line in file.read_bytes().splitlines())


def test_a_file_that_is_no_record_is_refused_by_its_line(tmp_path: FilePath) -> None:
    file = tmp_path / "notes.jsonl"
    file.write_text('{"name": "root:1", "entry": {"token_ids": [1]}}\nhello\n')
    with pytest.raises(bw.ConfigError, match="line 2, is no entry"):
        Record(file)
    file.write_text('{"name": "root:1", "entry": {"token_ids": "x"}}\n')
    with pytest.raises(bw.ConfigError, match=r"notes.jsonl: the line of root:1 is damaged; delete it"):
        Record(file).get("root:1", Spelled)
    for broken in (b'{"name": "root:1\n', b'{"name": "\xff\xfe"}\n', b'{"name": ""}\n'):
        file.write_bytes(broken)
        with pytest.raises(bw.ConfigError, match="line 1, is no entry; delete it"):
            Record(file)


def test_a_damaged_line_is_told_and_drawn_anew_once_it_is_gone(tmp_path: FilePath) -> None:
    """A strategy makes do with the paths that are left, so that nobody would hear of it."""
    file = tmp_path / "pool.jsonl"
    whole = bw.solve_sync("q", recorder(ScriptedBackend(answers), file), strategy=bw.SelfConsistency(6, SAMPLING))
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:3], lines[3][:-40] + b"\n", *lines[4:]]))
    for backend in (replay(ScriptedBackend({}), file), recorder(ScriptedBackend({}), file)):
        bw.solve_sync("q", backend, strategy=bw.SelfConsistency(6, SAMPLING))
        assert isinstance(backend.failure, bw.ConfigError)
        assert "pool.jsonl: the line of branch:" in str(backend.failure)
    file.write_bytes(b"".join([*lines[:3], *lines[4:]]))
    lost = json.loads(lines[3])["entry"]["text"]
    again = recorder(ScriptedBackend({"": [lost]}), file)
    mended = bw.solve_sync("q", again, strategy=bw.SelfConsistency(6, SAMPLING))
    assert (mended.votes, again.failure, again.replayed.total()) == (whole.votes, None, 5)


async def test_a_branch_that_was_stopped_is_no_entry(tmp_path: FilePath) -> None:
    file = tmp_path / "pool.jsonl"
    backend = recorder(ScriptedBackend({"": ["word " * 100]}), file)
    root = await ask(backend)
    extension = backend.extend(ExtendRequest(root, (5, 6), HOT))
    async for event in extension:
        if isinstance(event, Tokens):
            extension.cancel(0)
    names = [json.loads(line)["name"].split(":")[:2] for line in file.read_text().splitlines()]
    assert names == [["root", f"{root.key:016x}"], ["branch", f"{6:016x}"]]


async def test_samples_of_one_key_from_different_places_are_kept_apart(tmp_path: FilePath) -> None:
    """A step that ended inside a number is gone on with under the same key."""
    file = tmp_path / "pool.jsonl"
    backend = recorder(ScriptedBackend(lambda path, before: "so " * 9 if path.generated else "word " * 9), file)
    root = await ask(backend)
    (first,) = await grow(backend, root, [5], bw.Sampling(max_tokens=4))
    (second,) = await grow(backend, first.path, [5], bw.Sampling(max_tokens=4))
    assert len(Record(file)) == 3
    again = replay(backend, file)
    (one,) = await grow(again, root, [5], bw.Sampling(max_tokens=4))
    (two,) = await grow(again, first.path, [5], bw.Sampling(max_tokens=4))
    assert (one.path.token_ids, two.path.token_ids) == (first.path.token_ids, second.path.token_ids)


def test_a_full_disk_fails_no_answer_and_is_told(tmp_path: FilePath) -> None:
    record = Record(tmp_path / "pool.jsonl")
    record.file.symlink_to("/dev/full")
    backend = RecordedBackend(ScriptedBackend({}).capabilities, [], ScriptedBackend(answers), record)
    result = bw.solve_sync("q", backend, strategy=bw.SelfConsistency(3, SAMPLING))
    assert len(result.paths) == 3
    assert "No space left on device" in str(backend.failure)
