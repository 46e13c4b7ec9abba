"""`branchwise strategies`, and strategies with options and verifiers on the command line."""

import json
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from branchwise.cli.strategies import describe
from branchwise.registry import STRATEGIES
from tests.support.commands import assert_rejected, is_plain, quick, run
from tests.support.tiny_models import tiny_tokenizer

ROWS = "".join(
    json.dumps({"id": str(i), "question": f"What is {i} + {i}?", "answer": str(2 * i)}) + "\n" for i in (1, 2)
)
CHECKS = "def length(path):\n    return len(path.answer_text) / 100\n\n\ndef half(path):\n    return 0.5\n"
VARIANTS = ["self-consistency:paths=2", "self-consistency:paths=1", "best-of-n:choose=vote"]


@pytest.fixture(scope="module")
def tiny(tiny_model_folder: Path) -> list[str]:
    return quick(tiny_model_folder)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text(ROWS)
    (tmp_path / "checks.py").write_text(CHECKS)
    return tmp_path


def answered(folder: Path) -> list[tuple[str, str, int]]:
    """Return strategy, id and number of paths of every answered question."""
    records = map(json.loads, (folder / "results.jsonl").read_text().splitlines())
    return [(record["strategy"], record["id"], len(record["paths"])) for record in records]


def test_the_list_has_every_strategy_and_the_options_of_variants() -> None:
    done = run("strategies", env={"COLUMNS": "300"})
    assert done.returncode == 0
    assert is_plain(done.stdout)
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert set(lines) == {*STRATEGIES, "branchwise"}
    assert "Sample paths independently and take the majority answer (Wang et al. 2022" in lines["self-consistency"]
    assert lines["path-consistency-plain"].rstrip().endswith("With root_share=0, step_back=false, stop_at=none.")
    assert "With" not in lines["path-consistency"]


def test_a_name_shows_the_options_with_their_defaults() -> None:
    done = run("strategies", "path-consistency-plain", env={"COLUMNS": "300"})
    assert done.returncode == 0
    assert "arXiv 2409.01281" in done.stdout
    assert "paths=16 (with --paths 16)  an integer\n    Maximum number of paths (N in the paper).\n" in done.stdout
    assert "stop_at=none  a number or none\n" in done.stdout
    assert "sampling" not in done.stdout


def test_json_has_every_option() -> None:
    one = json.loads(run("strategies", "prefix-consistency", "--json").stdout)
    assert one["name"] == "prefix-consistency"
    paths = next(option for option in one["options"] if option["name"] == "paths")
    assert (paths["default"], paths["follows_paths"], paths["expected"]) == ("8", True, "an integer")
    every = json.loads(run("strategies", "--json").stdout)
    assert [each["name"] for each in every] == list(STRATEGIES)
    assert one in every


def test_an_unknown_strategy_is_rejected_with_the_closest_name() -> None:
    assert_rejected(
        run("strategies", "path-consistncy"), "'path-consistncy' is unknown; did you mean path-consistency?"
    )


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_and_option_is_described(name: str) -> None:
    described = describe(name)
    assert described.summary.endswith(".")
    assert [option.name for option in described.options if not option.description] == []


def test_solve_takes_options_and_a_verifier_and_records_both(tiny: list[str], here: Path) -> None:
    spec = "best-of-n: value=verifier,paths=2,choose=vote"
    options = ["--strategy", spec, "--verifier", "checks.py:length", "--json", "--trace", "trace.json"]
    done = run("solve", "What is 3 + 3?", *tiny, *options, cwd=here)
    assert done.stderr == ""
    for record in (json.loads(done.stdout), json.loads((here / "trace.json").read_text())):
        assert record["strategy"] == "best-of-n:paths=2,value=verifier,choose=vote"
        assert record["verifier"] == "checks.py:length"
    (root, *ended) = record["tree"]
    assert (root.get("value"), len(ended)) == (None, 2)
    assert [node["value"] for node in ended] == [len(node["text"]) / 100 for node in ended]


def test_a_missing_or_unused_verifier_is_reported_before_loading(tiny: list[str], here: Path) -> None:
    model = ["--model", "no-such-model"]
    done = run("solve", "q", *model, "--strategy", "beam:value=verifier")
    assert_rejected(done, "verifier: is missing, but beam:value=verifier needs one; add --verifier NAME")
    done = run("eval", "rows.jsonl", *model, "--strategy", "beam:value=verifier", cwd=here)
    assert_rejected(done, "verifier: is missing, but beam:value=verifier needs one; add --verifier NAME")
    done = run("solve", "q", *model, "--verifier", "checks.py:lenth", cwd=here)
    assert_rejected(done, "--verifier: checks.py has no lenth; did you mean length?")
    done = run("solve", "q", *model, "--strategy", "path-consistency:windows=4")
    assert_rejected(done, "--strategy: path-consistency has no option 'windows'; did you mean window? it has paths")
    done = run("solve", "q", *tiny, "--strategy", "greedy", "--verifier", "checks:half", cwd=here)
    assert "note: greedy may not use the verifier: no option is set to verifier\n" in done.stderr


def test_eval_compares_variants_of_a_strategy_and_resumes_each(tiny: list[str], here: Path) -> None:
    command = ["eval", "rows.jsonl", *tiny, *(part for variant in VARIANTS for part in ("--strategy", variant))]
    first = run(*command, "--limit", "1", "--out", "out", cwd=here)
    assert first.returncode == 0, first.stderr
    assert all(variant in first.stdout for variant in VARIANTS)
    expected = [(VARIANTS[0], "1", 2), (VARIANTS[1], "1", 1), (VARIANTS[2], "1", 3)]
    assert answered(here / "out") == expected
    assert run(*command, "--out", "out", cwd=here).returncode == 0
    assert answered(here / "out") == [*expected, (VARIANTS[0], "2", 2), (VARIANTS[1], "2", 1), (VARIANTS[2], "2", 3)]
    settings = json.loads((here / "out" / "run.json").read_text())["strategies"]
    assert {name: kept["paths"] for name, kept in settings.items()} == {VARIANTS[0]: 2, VARIANTS[1]: 1, VARIANTS[2]: 3}
    assert len(list((here / "out" / "branches").iterdir())) == 3
    assert run("report", "out", "--baseline", VARIANTS[1], cwd=here).returncode == 0
    pooled = run("eval", "rows.jsonl", "--max-tokens", "8", "--strategy", VARIANTS[0], "--pool", "out", cwd=here)
    assert pooled.returncode == 0, pooled.stderr
    assert "failed" not in pooled.stdout


def test_an_option_may_be_long_and_contain_any_characters(tiny: list[str], here: Path) -> None:
    spec = "tot-bfs:value=logprob,propose=true,max_steps=1,proposal=" + "What\\, then/now?\n[é] " * 20
    command = ["eval", "rows.jsonl", *tiny, "--limit", "1", "--strategy", spec, "--out", "out"]
    done = run(*command, cwd=here)
    assert done.returncode == 0, done.stderr
    again = run(*command, cwd=here)
    assert again.returncode == 0, again.stderr
    (file,) = (here / "out" / "branches").iterdir()
    assert file.name.startswith("tot-bfs-value-logprob-")
    assert len(set(answered(here / "out"))) == 1  # it failed and was tried again


def test_a_run_is_not_resumed_with_another_verifier(tiny: list[str], here: Path) -> None:
    command = ["eval", "rows.jsonl", *tiny, "--strategy", "best-of-n:value=verifier", "--limit", "1", "--out", "out"]
    done = run(*command, "--verifier", "checks.py:half", cwd=here)
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stdout
    assert json.loads((here / "out" / "run.json").read_text())["verifier"] == "checks.py:half"
    other = run(*command, "--verifier", "checks.py:length", cwd=here)
    assert_rejected(other, "another verifier: 'checks.py:half' there, 'checks.py:length' here; use another folder")
    assert run(*command, "--verifier", "checks.py:half", cwd=here).returncode == 0


def test_a_reward_model_scores_paths(tiny: list[str], here: Path) -> None:
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=261,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        pad_token_id=None,
    )
    config.num_labels = 1
    LlamaForSequenceClassification(config).save_pretrained(here / "judge")
    tiny_tokenizer().save_pretrained(here / "judge")
    options = ["--strategy", "best-of-n:value=verifier", "--verifier", "reward:judge,batch=2", "--device", "cpu"]
    done = run("solve", "What is 3 + 3?", *tiny, *options, "--trace", "trace.json", "--json", cwd=here)
    assert done.stderr == ""
    record = json.loads((here / "trace.json").read_text())
    assert record["verifier"] == "reward:judge,batch=2"
    values = [node["value"] for node in record["tree"][1:]]
    assert len(values) == 3
    assert all(0 < value < 1 for value in values)
