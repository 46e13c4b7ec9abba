"""Text metrics and perplexity."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from branchwise.backends.engine.engine import Engine
from branchwise.evaluation import perplexity
from branchwise.evaluation.metrics import overlap, similarity
from branchwise.prompts.library import TASKS
from tests.support.commands import run


def test_text_metrics_by_hand() -> None:
    assert overlap("The cat sat.", "a cat sat down") == pytest.approx(
        {"exact_match": 0.0, "precision": 1.0, "recall": 2 / 3, "f1": 0.8}
    )
    assert overlap(None, "x") == {"exact_match": 0.0, "precision": 0.0, "recall": 0.0, "f1": 0.0}
    same = similarity("the quick brown fox jumps", "the quick brown fox jumps")
    assert same == pytest.approx({"bleu": 1.0, "rouge_l": 1.0})
    other = similarity("the quick brown fox", "the quick brown fox jumps")
    assert other["rouge_l"] == pytest.approx(2 * 1 * 0.8 / 1.8)
    assert 0 < other["bleu"] < 1
    assert similarity(None, "x") == {"bleu": 0.0, "rouge_l": 0.0}


async def test_perplexity_matches_transformers(
    tiny_engine: Engine, tokenizer: PreTrainedTokenizerBase, tiny_model_folder: Path
) -> None:
    """The exp of the mean negative log-likelihood of the text's tokens, from the logits of transformers."""
    task, text = TASKS["text"], " A reply of some words."
    messages = task.render("Who?")
    prompt = (await tiny_engine.root(messages, 1)).token_ids
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float64)
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, *tokens]])).logits[0]
    losses = torch.nn.functional.cross_entropy(logits[len(prompt) - 1 : -1], torch.tensor(tokens))
    assert await perplexity(tiny_engine, task, "Who?", text) == pytest.approx(float(losses.exp()), rel=1e-4)


def test_rows_with_text_references_have_metrics(tmp_path: Path, tiny_model_folder: Path) -> None:
    row = {"id": "a", "question": "Say something.", "answer": "Something long.", "answer_type": "reference"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    arguments = ["--model", str(tiny_model_folder), "--max-tokens", "8", "--strategy", "greedy", "--out", "out"]
    done = run("eval", "rows.jsonl", *arguments, cwd=tmp_path, env={"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    (strategy,) = summary["data"][0]["strategies"]
    assert set(strategy["metrics"]) == {"exact_match", "precision", "recall", "f1", "bleu", "rouge_l"}
    assert done.stdout.splitlines()[1].split()[-7:] == ["f1", "precision", "recall", "rouge", "l", "p50", "s"]
    assert run("report", "out", cwd=tmp_path).returncode == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<th>exact match</th><th>f1</th><th>precision</th><th>recall</th><th>rouge l</th></tr>" in page
