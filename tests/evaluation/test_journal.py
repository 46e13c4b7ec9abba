"""`branchwise eval --out` and `--pool`: resumed runs, replayed paths and full disks."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from tests.support.commands import COMMAND, GOOD_ROW, assert_rejected, run

ROWS = "".join(
    json.dumps({"id": str(i), "question": f"What is {i} + {i}?", "answer": str(2 * i)}) + "\n" for i in range(6)
)


@pytest.fixture(scope="module")
def tiny(tiny_model_folder: Path) -> list[str]:
    return ["--model", str(tiny_model_folder), "--max-tokens", "40", "--paths", "6"]


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # threads slow down operations on tensors this small
    (tmp_path / "rows.jsonl").write_text(ROWS)
    return tmp_path


def results(folder: Path) -> dict[tuple[str, str], dict[str, object]]:
    """Return the results, without the fields that vary from run to run."""
    found = {}
    for line in (folder / "results.jsonl").read_text().splitlines():
        one = json.loads(line)
        usage = {name: one["usage"][name] for name in ("sampled", "discarded", "prompt")}
        found[one["strategy"], one["id"]] = {"usage": usage, "paths": one["paths"], "votes": one["votes"]}
    return found


def count_lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def test_a_killed_run_is_resumed(tiny: list[str], rows: Path) -> None:
    command = [
        "eval",
        "rows.jsonl",
        *tiny,
        "--strategy",
        "self-consistency",
        "--strategy",
        "path-consistency",
        "--concurrency",
        "1",
    ]
    assert run(*command, "--out", "whole", cwd=rows).returncode == 0
    process = subprocess.Popen(
        [*COMMAND, *command, "--out", "cut"], cwd=rows, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    branches = rows / "cut" / "branches" / "self-consistency.jsonl"
    deadline = time.monotonic() + 120
    while count_lines(rows / "cut" / "results.jsonl") < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    answered, sampled = count_lines(rows / "cut" / "results.jsonl"), count_lines(branches)
    assert 2 <= answered < 12
    with branches.open("ab") as file:
        file.write(b'{"name": "branch:half')  # an incomplete line, as after a kill
    done = run(*command, "--out", "cut", cwd=rows)
    assert done.returncode == 0, done.stderr
    assert results(rows / "cut") == results(rows / "whole")
    assert count_lines(rows / "cut" / "results.jsonl") == 12
    assert count_lines(branches) == count_lines(rows / "whole" / "branches" / "self-consistency.jsonl") > sampled
    summary = json.loads((rows / "cut" / "summary.json").read_text())
    (data,) = summary["data"]
    assert [(one["strategy"], one["questions"]) for one in data["strategies"]] == [
        ("self-consistency", 6),
        ("path-consistency", 6),
    ]
    again = run(*command, "--out", "cut", cwd=rows)  # everything is answered
    assert again.stdout == done.stdout
    assert count_lines(rows / "cut" / "results.jsonl") == 12


def test_a_run_with_other_settings_is_rejected(tiny: list[str], rows: Path) -> None:
    command = ["eval", "rows.jsonl", *tiny, "--strategy", "self-consistency", "--limit", "1", "--out", "out"]
    assert run(*command, cwd=rows).returncode == 0
    for changed, message in (
        (["--paths", "7"], "--out: out holds a run with another self-consistency.paths: 6 there, 7 here"),
        (["--temperature", "0.9"], "another self-consistency.sampling.temperature: 0.7 there, 0.9 here"),
        (["--seed", "3"], "another seed: 0 there, 3 here"),
        (["--budget-tokens", "90"], "another budget_tokens: None there, 90 here"),
        (["--dtype", "float64"], "another dtype: None there, 'float64' here"),
    ):
        assert_rejected(run(*command, *changed, cwd=rows), message)
    assert (
        run(*command, "--strategy", "greedy", "--limit", "2", cwd=rows).returncode == 0
    )  # further strategies and rows may be added
    assert set(results(rows / "out")) == {(name, id_) for name in ("self-consistency", "greedy") for id_ in "01"}
    other = ["eval", "rows.jsonl", *tiny, "--strategy", "greedy", "--limit", "1", "--out", "out"]
    assert run(*other, cwd=rows).returncode == 0
    (data,) = json.loads((rows / "out" / "summary.json").read_text())["data"]  # of everything in the folder
    assert data["baseline"] == "self-consistency"
    assert [(one["strategy"], one["questions"]) for one in data["strategies"]] == [
        ("self-consistency", 2),
        ("greedy", 2),
    ]
    text = ROWS.replace('"answer"', '"answer_type": "text", "answer"')
    for row in (GOOD_ROW.replace('"a"', '"0"'), text):  # another question, and another answer type
        (rows / "rows.jsonl").write_text(row)
        assert_rejected(run(*command, cwd=rows), "out holds another row 0 of rows")
    (rows / "other").mkdir()
    (rows / "other" / "rows.jsonl").write_text(GOOD_ROW)
    assert_rejected(run("eval", "other/rows.jsonl", *command[2:], cwd=rows), "out holds a run with another file rows: ")
    with FileLock(rows / "out" / "lock"):
        assert_rejected(run(*command, cwd=rows), "out is in use by another run; wait")
    (rows / "out" / "results.jsonl").write_text("{}\n")
    assert_rejected(run(*command, cwd=rows), "results.jsonl, line 1, is not a result of this version")


def test_a_pool_answers_without_a_model(tiny: list[str], rows: Path) -> None:
    pool = ["eval", "rows.jsonl", *tiny, "--strategy", "self-consistency", "--out", "pool"]
    assert run(*pool, cwd=rows).returncode == 0
    live = ["eval", "rows.jsonl", *tiny, "--strategy", "adaptive-consistency", "--out", "live"]
    assert run(*live, cwd=rows).returncode == 0
    rest = ["--max-tokens", "40", "--paths", "6", "--strategy", "adaptive-consistency"]
    replayed = run("eval", "rows.jsonl", *rest, "--pool", "pool", "--out", "replayed", cwd=rows)
    assert replayed.returncode == 0, replayed.stderr
    assert results(rows / "replayed") == results(rows / "live")
    rejected = run("eval", "rows.jsonl", *rest, "--pool", "pool", "--seed", "1", cwd=rows)
    assert_rejected(rejected, "--seed: is 1, the pool's is 0; use --seed 0")
    assert_rejected(run("eval", "rows.jsonl", "--pool", "nowhere", cwd=rows), "--pool: nowhere holds no run")
    from_pool = ["eval", "rows.jsonl", "--max-tokens", "40", "--pool", "pool"]
    for name, paths in (("greedy", "6"), ("self-consistency", "7")):
        missing = run(*from_pool, "--strategy", name, "--paths", paths, cwd=rows)
        assert_rejected(missing, f"--pool: lacks a path that {name} needs; sample it with --live")
    other = run("eval", "rows.jsonl", *tiny, "--pool", "pool", "--live", "--dtype", "float64", cwd=rows)
    assert_rejected(other, "--dtype: is float64, the pool's is the device's default; leave --dtype out")
    more = run(
        "eval",
        "rows.jsonl",
        *tiny,
        "--strategy",
        "prefix-consistency",
        "--pool",
        "pool",
        "--live",
        "--out",
        "more",
        cwd=rows,
    )
    assert more.returncode == 0, more.stderr
    assert "failed" not in more.stdout
    record = rows / "pool" / "branches" / "self-consistency.jsonl"
    whole = record.read_bytes().splitlines(keepends=True)
    damaged = next(place for place, line in enumerate(whole) if line.startswith(b'{"name": "branch:'))
    record.write_bytes(b"".join(line[:-30] + b"\n" if place == damaged else line for place, line in enumerate(whole)))
    rejected = run(*from_pool, "--paths", "6", "--strategy", "adaptive-consistency", cwd=rows)
    assert_rejected(rejected, "--pool: lacks a path that adaptive-consistency needs; sample it with --live")
    settings = rows / "pool" / "run.json"
    settings.write_text(settings.read_text().replace('"context": ', '"context": "x", "was": '))
    assert_rejected(run(*from_pool, cwd=rows), "--pool: pool/run.json can't be read as a run's settings")


def test_a_full_disk_ends_the_run_and_keeps_the_results(tiny: list[str], rows: Path) -> None:
    """A limit on the file size simulates a full disk: the branches of the third question exceed it."""
    command = ["eval", "rows.jsonl", *tiny, "--strategy", "self-consistency", "--concurrency", "1", "--out", "out"]
    assert run(*command, "--limit", "2", cwd=rows).returncode == 0
    kept = (rows / "out" / "results.jsonl").read_bytes()
    room = (rows / "out" / "branches" / "self-consistency.jsonl").stat().st_size + 100
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room})); " + (
        "from branchwise.cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, *command], cwd=rows, capture_output=True, text=True, timeout=120, check=False
    )
    assert_rejected(done, "cannot write out/branches/self-consistency.jsonl (File too large); free some space")
    assert (rows / "out" / "results.jsonl").read_bytes() == kept
    assert run(*command, cwd=rows).returncode == 0
    assert len(results(rows / "out")) == 6
    # With a pool only the answers are written.
    replay = [
        "eval",
        "rows.jsonl",
        "--max-tokens",
        "40",
        "--paths",
        "6",
        "--strategy",
        "self-consistency",
        "--pool",
        "out",
        "--concurrency",
        "1",
        "--out",
        "again",
    ]
    assert run(*replay, "--limit", "2", cwd=rows).returncode == 0
    kept = (rows / "again" / "results.jsonl").read_bytes()
    limited = limited.replace(str(room), str(len(kept) + 100))
    done = subprocess.run(
        [sys.executable, "-c", limited, *replay], cwd=rows, capture_output=True, text=True, timeout=120, check=False
    )
    assert_rejected(done, "cannot write in again (File too large); free some space")
    assert run(*replay, cwd=rows).returncode == 0
    assert (rows / "again" / "results.jsonl").read_bytes().startswith(kept)
    assert len(results(rows / "again")) == 6


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_at_the_end_keeps_the_results(tiny: list[str], rows: Path) -> None:
    command = ["eval", "rows.jsonl", *tiny, "--strategy", "greedy", "--limit", "2", "--out", "out"]
    (rows / "out").mkdir()
    (rows / "out" / "summary.json.partial").symlink_to("/dev/full")
    assert_rejected(run(*command, cwd=rows), "cannot write in out (No space left on device); free some space")
    assert len(results(rows / "out")) == 2
    (rows / "out" / "report.html").symlink_to("/dev/full")
    assert_rejected(run("report", "out", cwd=rows), "cannot write out/report.html (No space left on device); free some")
    for file in ("summary.json.partial", "report.html"):
        (rows / "out" / file).unlink()
    assert run(*command, cwd=rows).returncode == run("report", "out", cwd=rows).returncode == 0
    assert json.loads((rows / "out" / "summary.json").read_text())["data"][0]["questions"] == 2


def test_invalid_rows_and_settings_are_named(rows: Path) -> None:
    (rows / "bad.jsonl").write_text(GOOD_ROW + '{"id": "b", "question": "q"}\n')
    assert_rejected(run("eval", "bad.jsonl", cwd=rows), "line 2, answer: is missing")
    assert_rejected(run("eval", "rows.jsonl", "--skip", "6", cwd=rows), "--skip: is 6, but rows.jsonl has 6 rows")
    assert_rejected(run("report", "nowhere", cwd=rows), "nowhere holds no results; name the folder of an evaluation")
    assert_rejected(run("eval", "rows.jsonl", "--alternatives", "-1", cwd=rows), "alternatives: is -1; use 0 (none)")
    (rows / "empty").mkdir()
    (rows / "empty" / "results.jsonl").touch()
    assert_rejected(run("report", "empty", cwd=rows), "empty holds no answers yet")
