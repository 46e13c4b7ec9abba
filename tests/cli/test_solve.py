"""`branchwise solve` as a user meets it."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

import branchwise as bw
from branchwise.cli.solve import print_result
from tests.support.commands import Done, is_plain, quick, refused, run

LEDGER = {"prompt", "reused", "prefilled", "sampled", "discarded", "drafted", "accepted", "forward_passes", "seconds"}


@pytest.fixture(scope="module")
def tiny(tiny_model_folder: Path) -> list[str]:
    return quick(tiny_model_folder)


@pytest.fixture(scope="module")
def solved(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, Path]:
    """A run with its question on standard input, a stop that is never met and seed 7; and its trace."""
    trace = tmp_path_factory.mktemp("solved") / "trace.json"
    options = ["--json", "--stop", "never met", "--seed", "7", "--trace", str(trace)]
    return run("solve", "-", *tiny, *options, given="What is 3 + 3?\n"), trace


def test_json_is_one_object_with_the_whole_ledger(solved: tuple[Done, Path]) -> None:
    done, _ = solved
    assert done.returncode == 1  # no answer
    record = json.loads(done.stdout)
    assert record["question"] == "What is 3 + 3?\n"
    assert record["answer"] is None
    assert (record["votes"], record["outcome"], record["confidence"]) == ({}, "no_answer", None)
    assert set(record["usage"]) >= LEDGER
    assert record["usage"]["prompt"] == record["usage"]["reused"] + record["usage"]["prefilled"]
    assert record["usage"]["sampled"] == 24
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_the_same_seed_gives_the_same_trace(solved: tuple[Done, Path], tiny: list[str], tmp_path: Path) -> None:
    run("solve", "What is 3 + 3?\n", *tiny, "--seed", "7", "--trace", str(tmp_path / "trace.json"))
    first, second = (json.loads(file.read_text()) for file in (solved[1], tmp_path / "trace.json"))
    assert [path["tokens"] for path in first["paths"]] == [8, 8, 8]
    assert len({path["text"] for path in first["paths"]}) > 1
    assert all(first[field] == second[field] for field in ("answer", "votes", "confidence", "paths", "seed"))
    assert [file.name for file in tmp_path.iterdir()] == ["trace.json"]


@pytest.mark.parametrize("how", ["off", "draft model"])
def test_drafts_change_nothing_but_the_cost(
    how: str, solved: tuple[Done, Path], tiny: list[str], tiny_model_folder: Path, tmp_path: Path
) -> None:
    options = ["--speculation", "off"] if how == "off" else ["--draft-model", str(tiny_model_folder)]
    run("solve", "What is 3 + 3?\n", *tiny, "--seed", "7", "--trace", str(tmp_path / "trace.json"), *options)
    first, second = (json.loads(file.read_text()) for file in (solved[1], tmp_path / "trace.json"))
    assert all(first[field] == second[field] for field in ("answer", "votes", "confidence", "seed"))
    for ours, theirs in zip(first["paths"], second["paths"], strict=True):
        assert [segment["token_ids"] for segment in ours["segments"]] == [
            segment["token_ids"] for segment in theirs["segments"]
        ]
        assert (ours["text"], ours["tokens"]) == (theirs["text"], theirs["tokens"])
    if how == "off":  # whether a draft model's tokens pay, this machine's clock decides
        assert second["usage"]["drafted"] == 0


def test_what_cannot_draft_is_refused_in_one_line(tiny: list[str]) -> None:
    done = run("solve", "What is 2 + 2?", *tiny, "--speculation", "sometimes")
    assert refused(done, "--speculation: is 'sometimes'")
    done = run("solve", "What is 2 + 2?", *tiny, "--draft-model", "no-such-model")
    assert refused(done, "--draft-model: 'no-such-model' is unknown")


def test_the_token_budget_holds_and_piped_output_is_plain(tiny: list[str]) -> None:
    done = run("solve", "What is 2 + 2?", *tiny, "--budget-tokens", "13")
    assert done.returncode == 1
    assert "answer      none" in done.stdout
    assert "sampled     13 tokens" in done.stdout
    assert "The token budget ran out" in done.stdout
    assert is_plain(done.stdout)
    assert done.stderr == ""


def test_what_a_model_says_cannot_steer_a_terminal() -> None:
    shown = io.StringIO()
    said = "7\x1b]0;title\x07\x9b2J\nanswer 8"
    result = bw.Result(said, 0.5, {said: 1.0}, bw.Outcome.COMPLETE, bw.Usage(), errors=(f"failed {said}",))
    print_result(Console(file=shown), result)
    assert is_plain(shown.getvalue())
    assert "answer      7 ]0;title 2J answer 8\n" in shown.getvalue()


def test_a_prompt_longer_than_the_context_is_refused(tiny: list[str]) -> None:
    assert refused(run("solve", "word " * 600, *tiny), "question: its prompt is 3")


def test_the_result_is_shown_even_where_its_trace_cannot_be_written(tiny: list[str], tmp_path: Path) -> None:
    (tmp_path / "trace.json.partial").mkdir()
    done = run("solve", "q", *tiny, "--trace", str(tmp_path / "trace.json"), "--json")
    assert refused(done, "--trace: cannot write")
    assert json.loads(done.stdout)["outcome"] == "no_answer"


@pytest.mark.model
def test_a_real_model_answers_from_the_command_line() -> None:
    # The examples show so small a model the form of an answer.
    options = ["--model", "SmolLM2-135M-Instruct", "--task", "math-few-shot", "--paths", "4", "--json"]
    done = run("solve", "What is 6 times 7?", *options)
    record = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert record["answer"] in record["votes"]
    # The prompt is prefilled once; how many paths reuse it is for the default strategy to say.
    usage = record["usage"]
    assert usage["reused"] >= usage["prefilled"] > 0
    assert usage["reused"] % usage["prefilled"] == 0
