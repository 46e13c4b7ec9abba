"""`branchwise solve`: output, traces, budgets and rejected input."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

import branchwise as bw
from branchwise.cli.render.lines import print_summary
from tests.support.commands import Completed, assert_rejected, is_plain, quick, run

USAGE = {"prompt", "reused", "prefilled", "sampled", "discarded", "drafted", "accepted", "forward_passes", "seconds"}


@pytest.fixture(scope="module")
def tiny(tiny_model_folder: Path) -> list[str]:
    return quick(tiny_model_folder)


@pytest.fixture(scope="module")
def solved(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Completed, Path]:
    """A run with its question on standard input, a stop text that never appears and seed 7; and its trace."""
    trace = tmp_path_factory.mktemp("solved") / "trace.json"
    options = ["--json", "--stop", "never sampled", "--seed", "7", "--trace", str(trace)]
    return run("solve", "-", *tiny, *options, stdin="What is 3 + 3?\n"), trace


def test_json_is_one_object_with_the_whole_usage(solved: tuple[Completed, Path]) -> None:
    done, _ = solved
    assert done.returncode == 1  # without an answer
    record = json.loads(done.stdout)
    assert record["question"] == "What is 3 + 3?\n"
    assert record["answer"] is None
    assert (record["votes"], record["outcome"], record["confidence"]) == ({}, "no_answer", None)
    assert set(record["usage"]) >= USAGE
    assert record["usage"]["prompt"] == record["usage"]["reused"] + record["usage"]["prefilled"]
    assert record["usage"]["sampled"] == 24
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_the_same_seed_gives_the_same_trace(solved: tuple[Completed, Path], tiny: list[str], tmp_path: Path) -> None:
    run("solve", "What is 3 + 3?\n", *tiny, "--seed", "7", "--trace", str(tmp_path / "trace.json"))
    first, second = (json.loads(file.read_text()) for file in (solved[1], tmp_path / "trace.json"))
    assert [path["tokens"] for path in first["paths"]] == [8, 8, 8]
    assert len({path["text"] for path in first["paths"]}) > 1
    assert all(first[field] == second[field] for field in ("answer", "votes", "confidence", "paths", "seed"))
    assert [file.name for file in tmp_path.iterdir()] == ["trace.json"]


@pytest.mark.parametrize("drafts", ["off", "draft model"])
def test_drafts_change_only_the_cost(
    drafts: str, solved: tuple[Completed, Path], tiny: list[str], tiny_model_folder: Path, tmp_path: Path
) -> None:
    options = ["--speculation", "off"] if drafts == "off" else ["--draft-model", str(tiny_model_folder)]
    run("solve", "What is 3 + 3?\n", *tiny, "--seed", "7", "--trace", str(tmp_path / "trace.json"), *options)
    first, second = (json.loads(file.read_text()) for file in (solved[1], tmp_path / "trace.json"))
    assert all(first[field] == second[field] for field in ("answer", "votes", "confidence", "seed"))
    for path, other in zip(first["paths"], second["paths"], strict=True):
        assert [segment["token_ids"] for segment in path["segments"]] == [
            segment["token_ids"] for segment in other["segments"]
        ]
        assert (path["text"], path["tokens"]) == (other["text"], other["tokens"])
    if drafts == "off":  # with a draft model, measured times decide if tokens are drafted
        assert second["usage"]["drafted"] == 0


def test_an_invalid_drafter_is_rejected(tiny: list[str]) -> None:
    done = run("solve", "What is 2 + 2?", *tiny, "--speculation", "sometimes")
    assert_rejected(done, "--speculation: is 'sometimes'")
    done = run("solve", "What is 2 + 2?", *tiny, "--draft-model", "no-such-model")
    assert_rejected(done, "--draft-model: 'no-such-model' is unknown")


def test_the_token_budget_is_kept_and_piped_output_is_plain(tiny: list[str]) -> None:
    done = run("solve", "What is 2 + 2?", *tiny, "--budget-tokens", "13")
    assert done.returncode == 1
    assert "answer      none" in done.stdout
    assert "sampled     13 tokens" in done.stdout
    assert "The token budget ran out" in done.stdout
    assert is_plain(done.stdout)
    assert done.stderr == ""


def test_control_characters_of_a_model_are_not_printed() -> None:
    shown = io.StringIO()
    text = "7\x1b]0;title\x07\x9b2J\nanswer 8"
    result = bw.Result(text, 0.5, {text: 1.0}, bw.Outcome.COMPLETE, bw.Usage(), errors=(f"failed {text}",))
    print_summary(Console(file=shown), result.summary())
    assert is_plain(shown.getvalue())
    assert "answer      7 ]0;title 2J answer 8\n" in shown.getvalue()


def test_a_prompt_longer_than_the_context_is_rejected(tiny: list[str]) -> None:
    assert_rejected(run("solve", "word " * 600, *tiny), "question: its prompt is 3")


def test_the_result_is_printed_if_the_trace_cannot_be_written(tiny: list[str], tmp_path: Path) -> None:
    (tmp_path / "trace.json.partial").mkdir()
    done = run("solve", "q", *tiny, "--trace", str(tmp_path / "trace.json"), "--json")
    assert_rejected(done, "--trace: cannot write")
    assert json.loads(done.stdout)["outcome"] == "no_answer"


@pytest.mark.model
def test_a_real_model_answers_from_the_command_line() -> None:
    # A model this small needs examples of the answer format.
    options = ["--model", "SmolLM2-135M-Instruct", "--task", "math-few-shot", "--paths", "4", "--json"]
    done = run("solve", "What is 6 times 7?", *options)
    record = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert record["answer"] in record["votes"]
    # The prompt is prefilled once and reused by a number of paths that depends on the default strategy.
    usage = record["usage"]
    assert usage["reused"] >= usage["prefilled"] > 0
    assert usage["reused"] % usage["prefilled"] == 0
