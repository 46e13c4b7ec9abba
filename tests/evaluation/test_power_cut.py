"""A run whose files a power cut truncated, or whose disk changed a byte, resumes without a wrong line."""

import json
import os
import random
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import branchwise as bw
from branchwise.backends.recorded.backend import RecordedBackend
from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.evaluation import Answered, Journal, RunSettings, read_results
from tests.support.evaluations import evaluate_rows, numbered_rows

ROWS, STRATEGIES = numbered_rows(3), {"sc": bw.SelfConsistency(2)}


def answer(path: bw.Path, before: int) -> str:
    (row,) = (row.id for row in ROWS if row.question in str(path.root.messages))
    return f"It is hard. The answer is {row}."


def open_journal(folder: Path) -> Journal:
    capabilities = ScriptedBackend({}).capabilities
    settings = RunSettings.of(model="scripted", seed=0, dtype=None, capabilities=capabilities, strategies=STRATEGIES)
    return Journal(folder, settings)


async def resume(folder: Path) -> tuple[list[Answered], int]:
    """Run what is left to do; return all answers and the number of those that were new."""
    with open_journal(folder) as journal:
        inner = ScriptedBackend(answer)
        backend = RecordedBackend(inner.capabilities, [], inner, journal.branches("sc"))
        new = await evaluate_rows(ROWS, STRATEGIES, backend, on_answered=journal.add, done=journal.done("rows", ROWS))
        return sorted(journal.answered, key=lambda one: one.id), len(new)


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    await resume(tmp_path)
    return tmp_path


def content(answers: list[Answered]) -> list[dict[str, object]]:
    """Return the answers without what varies: their usage, and how many branches were replayed."""
    return [one.model_dump(exclude={"usage", "replayed"}) for one in answers]


def flips(size: int, count: int) -> Iterator[tuple[int, int]]:
    """Yield random places and masks that change one to eight bits there."""
    dice = random.Random(0)
    for _ in range(count):
        yield dice.randrange(size), dice.randrange(1, 256)


async def test_results_truncated_at_any_byte_keep_every_whole_line(folder: Path) -> None:
    file = folder / "results.jsonl"
    whole, answers = file.read_bytes(), read_results(folder)
    for size in range(len(whole) + 1):
        file.write_bytes(whole[:size])
        assert read_results(folder) == answers[: whole[:size].count(b"\n")]


async def test_a_run_truncated_anywhere_resumes(folder: Path) -> None:
    files = [folder / "results.jsonl", folder / "branches" / "sc.jsonl"]
    whole = [file.read_bytes() for file in files]
    answers = content((await resume(folder))[0])
    dice = random.Random(1)
    for _ in range(60):
        cuts = [dice.randrange(len(data) + 1) for data in whole]
        for file, data, cut in zip(files, whole, cuts, strict=True):
            file.write_bytes(data[:cut] + dice.choice((b"", b"\0" * 100)))  # a file system may add zeros
        resumed, new = await resume(folder)
        assert content(resumed) == answers
        assert new == 3 - whole[0][: cuts[0]].count(b"\n")
        assert all(json.loads(line) for file in files for line in file.read_bytes().splitlines())


async def test_lost_results_are_replayed_from_the_branches(folder: Path) -> None:
    file = folder / "results.jsonl"
    whole = file.read_bytes()
    branches = (folder / "branches" / "sc.jsonl").read_bytes()
    for size in range(0, len(whole), 97):
        file.write_bytes(whole[:size])
        answers, new = await resume(folder)
        assert sorted(one.replayed for one in answers) == [0] * (3 - new) + [2] * new
        assert (folder / "branches" / "sc.jsonl").read_bytes() == branches


async def test_a_changed_byte_loses_its_lines_at_most(folder: Path) -> None:
    file = folder / "results.jsonl"
    whole, answers = file.read_bytes(), list(read_results(folder))
    for place, mask in flips(len(whole), 3_000):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ mask]) + whole[place + 1 :])
        read = read_results(folder)
        assert all(one in answers for one in read), place
        assert len(read) >= (1 if whole[place] == 10 else 2), place  # without a line feed, two lines are one


async def test_a_run_with_a_changed_byte_resumes(folder: Path) -> None:
    files = [folder / "results.jsonl", folder / "branches" / "sc.jsonl"]
    whole = [file.read_bytes() for file in files]
    answers = content((await resume(folder))[0])
    for (first, mask), (second, _) in zip(flips(len(whole[0]), 40), flips(len(whole[1]), 40), strict=True):
        for file, data, place in zip(files, whole, (first, second), strict=True):
            file.write_bytes(data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :])
        assert content((await resume(folder))[0]) == answers
        assert content(list(read_results(folder)))  # readable, and intact:
        assert (await resume(folder))[1] == 0
    assert (folder / "results.jsonl.damaged").stat().st_size > 0


async def test_a_run_of_an_earlier_version_resumes(folder: Path) -> None:
    """Its lines have no checksums."""
    for file in (folder / "results.jsonl", folder / "branches" / "sc.jsonl"):
        lines = file.read_text().splitlines()
        file.write_text("".join(line.rpartition(', "crc32"')[0] + "}\n" for line in lines))
    answers = list(read_results(folder))
    assert len(answers) == 3
    assert (await resume(folder))[1] == 0
    file = folder / "results.jsonl"
    first, *others = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first)
    assert (await resume(folder))[1] == 2  # sealed lines follow one without a checksum
    assert content(list(read_results(folder))) == content(answers)
    assert b"crc32" not in first
    assert file.read_bytes().count(b"crc32") == len(others)


async def test_the_checksum_covers_the_line_before_it(folder: Path) -> None:
    for file in (folder / "results.jsonl", folder / "branches" / "sc.jsonl"):
        for line in file.read_bytes().splitlines():
            sealed = json.loads(line)
            assert int(sealed["crc32"], 16) == zlib.crc32(line.rpartition(b', "crc32"')[0])


async def test_branches_reach_the_disk_before_their_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    await resume(tmp_path)
    files = [name for name in synced if name.endswith(".jsonl")]
    assert files == ["sc.jsonl", "results.jsonl"] * 3
