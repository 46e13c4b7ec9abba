"""The benchmarks run end to end on a tiny model, and ratios come from paired repetitions."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIELDS = {"system", "branches", "prompt_tokens", "tokens_per_second", "ms_per_step"}
RATIOS = {"ratio_to_hf", "ratio_to_vllm", "ratio_to_floor"}


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    # On tensors this small, a second thread makes a run slower.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def test_a_run_writes_rows_with_every_field(tiny_model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "bench" / "engine.json"
    done = run(
        "engine",
        "--model",
        str(tiny_model_folder),
        "--out",
        str(out),
        "--vllm-python",
        str(tmp_path / "none"),
        "--branches",
        "1,3",
        "--prompts",
        "20",
        "--new-tokens",
        "12",
        "--repeat",
        "2",
        "--threads",
        "1",
        "--max-others",
        "1",
        "--quiet-seconds",
        "0",
        "--profile",
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(out.read_text())
    assert {"cpu", "cores", "threads", "load_average"} <= document["machine"].keys()
    assert set(document["versions"]) == {"branchwise", "hf", "floor"}
    rows = {(row["system"], row["branches"]): row for row in document["rows"]}
    assert set(rows) == {(s, b) for s in ("branchwise", "hf", "floor", "bandwidth") for b in (1, 3)}
    for row in rows.values():
        assert row.keys() >= FIELDS | RATIOS
        assert row["tokens_per_second"] > 0
        assert row["ms_per_step"] == pytest.approx(1000 * row["branches"] / row["tokens_per_second"], rel=1e-2)
        assert row["ratio_to_hf"] > 0
        assert row["ratio_to_floor"] > 0
        assert row["ratio_to_vllm"] is None
    for branches in (1, 3):
        assert rows["branchwise", branches]["tokens"] == 12 * branches, "an end token ended a branch"
        assert rows["hf", branches]["tokens"] == 12 * branches
        assert rows["branchwise", branches]["prefilled_tokens"] == 20, "the prompt is computed once"
        assert rows["hf", branches]["ratio_to_hf"] == 1
    prompts = [sample["cell"] for sample in document["samples"]]
    assert len(prompts) == 2 * 2 * 3
    for parts in document["profiles"]:
        shares = [value for name, value in parts.items() if name not in ("branches", "prompt_tokens")]
        assert sum(shares) == pytest.approx(1)
        assert parts["linears"] > 0
    assert any("vllm-env" in reason for reason in document["skipped"])
    assert "branchwise" in done.stdout


def test_a_system_that_would_take_too_long_is_left_out(tiny_model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "engine.json"
    done = run(
        "engine",
        "--model",
        str(tiny_model_folder),
        "--out",
        str(out),
        "--systems",
        "floor",
        "--branches",
        "1",
        "--prompts",
        "20",
        "--new-tokens",
        "8",
        "--max-seconds",
        "1e-9",
        "--threads",
        "1",
    )
    assert done.returncode == 1
    document = json.loads(out.read_text())
    assert document["rows"] == []
    assert "floor at 1 x 20: would take" in document["skipped"][0]


def test_the_gpu_benchmark_runs_on_a_cpu_with_a_tiny_shape(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    done = run(
        "gpu",
        "--device",
        "cpu",
        "--tiny",
        "--branches",
        "1,3",
        "--prompts",
        "20",
        "--new-tokens",
        "10",
        "--repeat",
        "1",
        "--out",
        str(out),
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["rows"]
    assert [row["branches"] for row in rows] == [1, 3]
    assert all(row["tokens_per_second"] > 0 and row["share_of_floor"] > 0 for row in rows)


def test_the_gpu_benchmark_reports_a_missing_gpu_in_one_line() -> None:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "benchmarks.gpu"]
    done = subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "no CUDA device" in done.stderr


def test_speculation_writes_a_row_for_every_kind_of_drafts(tiny_model_folder: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "data.jsonl", tmp_path / "speculation.json"
    rows = [{"question": f"What is {i} + {i}?", "category": "qa"} for i in range(2)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run(
        "speculation",
        str(data),
        "--model",
        str(tiny_model_folder),
        "--branches",
        "1,5",
        "--questions",
        "2",
        "--new-tokens",
        "12",
        "--sibling-tokens",
        "20",
        "--out",
        str(out),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())["rows"]
    assert {row["drafter"] for row in found} == {"siblings", "lookup", "store", "layer-skip", "siblings+lookup+store"}
    for row in found:
        assert {"workload", "branches", "budget", "temperature", "tokens_per_pass", "acceptance", "speedup"} <= set(row)
        assert row["tokens_per_pass"] >= 1
        assert 0 <= row["acceptance"] <= 1
        assert row["speedup"] > 0
        if row["budget"] == "auto":
            assert row["positions_per_pass"] >= row["tokens_per_pass"] - 1e-9


def test_ratios_are_medians_over_paired_repetitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.machine import Use
    from benchmarks.report import rows, table
    from benchmarks.run import Cell, Sample
    from benchmarks.systems.worker import Measurement

    cell = Cell(4, 83)

    def sample(system: str, repetition: int, seconds: float) -> Sample:
        # 44 tokens; the first 4 took 1 second, the other 40 took `seconds`.
        done = Measurement(44, 1 + seconds, 4, 1.0, {"bandwidth_step_seconds": 0.5} if system == "floor" else {})
        return Sample(system, cell, repetition, done, Use(0.1 * repetition, None))

    # The machine was ten times slower in the last repetition, for every system, so no ratio changes.
    took = {"branchwise": (1, 2, 10), "hf": (4, 4, 40), "vllm": (2, 2, 20), "floor": (0.5, 1.5, 5)}
    samples = [sample(name, i, seconds) for name, times in took.items() for i, seconds in enumerate(times)]
    samples = [one for one in samples if (one.system, one.repetition) != ("hf", 1)]  # this job failed
    found = {row.system: row for row in rows(samples)}
    row = found["branchwise"]
    assert row.tokens_per_second == pytest.approx(20)
    assert row.ms_per_step == pytest.approx(200)
    assert row.ratio_to_hf == pytest.approx(4)  # of 4 and 4: a repetition without a pair does not count
    assert row.ratio_to_vllm == pytest.approx(2)  # of 2, 1 and 2
    assert row.ratio_to_floor == pytest.approx(0.5)  # of 0.5, 0.75 and 0.5
    assert row.total_ratio_to_vllm == pytest.approx(1.5)  # of 3 / 2, 3 / 3 and 21 / 11
    assert (row.slowest, row.fastest) == pytest.approx((4, 40))
    assert row.others == pytest.approx(0.1)
    assert found["hf"].repetitions == 2
    assert found["bandwidth"].ms_per_step == pytest.approx(500 * 44 / 40, rel=0.5)
    assert "4 branches, prompt of 83 tokens" in table([*found.values()])
    assert rows([one for one in samples if one.system == "branchwise"])[0].ratio_to_vllm is None


def test_a_meter_separates_other_processes_from_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.machine import Meter

    spin = "import time; end = time.monotonic() + 30\nprint(flush=True)\nwhile time.monotonic() < end: pass"
    with subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE) as busy:
        assert busy.stdout is not None
        busy.stdout.readline()
        meters = {
            "other": Meter(None, ()),
            "idler": Meter(None, (busy.pid,)),
            "worker": Meter(busy.pid, (busy.pid,)),
        }
        try:
            busy.wait(1)
        except subprocess.TimeoutExpired:
            uses = {name: meter.use() for name, meter in meters.items()}
        busy.kill()
    if uses["worker"].others is None:
        pytest.skip("this system does not report processor use")
    assert uses["idler"].idlers is not None
    assert uses["idler"].idlers > 0
    assert uses["worker"].idlers == 0
    assert uses["other"].others is not None
    assert uses["other"].others > uses["worker"].others
