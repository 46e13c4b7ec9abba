"""Statistics, summaries and what a person sees of them."""

import json
import random
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from branchwise.backends.engine.engine import Engine
from branchwise.evaluation.answered import Answered, Point
from branchwise.evaluation.metrics import overlap, perplexity, resemblance
from branchwise.evaluation.report.page import render, section
from branchwise.evaluation.report.path_tree import Segment, path_tree
from branchwise.evaluation.report.plot import plot
from branchwise.evaluation.report.summary import Summary, points, summarize, write_summary
from branchwise.evaluation.statistics import calibration, difference, mean, ratio
from branchwise.prompts.library import TASKS
from tests.support.commands import run

EVIL = '<script>alert("1")</script><img src=x onerror=alert(2)>'


def answered(
    id_: str = "a",
    strategy: str = "sc",
    correct: bool = True,
    sampled: int = 100,
    texts: tuple[str, ...] = ("The answer is 1.",),
    **fields: object,
) -> Answered:
    paths = [
        {"branch": i, "answer": "1", "vote": "1", "text": text, "tokens": 5, "parent": None, "prefix_tokens": 0,
         "prefix_chars": 0, "stop_reason": "end"}
        for i, text in enumerate(texts)
    ]  # fmt: skip
    record = {
        "data": "rows", "id": id_, "strategy": strategy, "question": "q", "reference": "1", "correct": correct,
        "answer": "1", "confidence": 0.8, "votes": {"1": len(texts)}, "outcome": "complete",
        "usage": {"sampled": sampled, "seconds": 2.0}, "paths": paths, "right": [correct] * len(texts),
        "curve": [(sampled, correct)], **fields,
    }  # fmt: skip
    return Answered.model_validate(record)


def test_an_interval_covers_what_it_should() -> None:
    """Of 200 samples of 40 questions at 70%, at least 180 intervals hold 0.7 (95% of 200 is 190, deviation 3).
    Resamples of 100 questions, half of them right, are binomial: 95% have 40 to 60."""
    halves = mean([0.0, 1.0] * 50)
    assert (halves.low, halves.high) == (pytest.approx(0.4, abs=0.011), pytest.approx(0.6, abs=0.011))
    drawn = random.Random(1)
    held = 0
    for _ in range(200):
        estimate = mean([float(drawn.random() < 0.7) for _ in range(40)])
        held += estimate.low <= 0.7 <= estimate.high
    assert held >= 180


def test_equal_values_are_no_certainty() -> None:
    """None of n went wrong: the exact bound on how often it does is 1 - 0.025^(1/n)."""
    estimate = mean([1.0] * 4)
    assert (estimate.value, estimate.high) == (1.0, 1.0)
    assert estimate.low == pytest.approx(0.025**0.25)
    same = difference([1.0, 0.0], [1.0, 0.0])
    assert same.value == 0
    assert same.high == -same.low == pytest.approx(1 - 0.025**0.5)


def test_differences_are_paired() -> None:
    """Each question is three points better: pairs leave nothing to chance but what was never seen."""
    baseline = [random.Random(i).random() / 2 for i in range(50)]
    better = [value + 0.03 for value in baseline]
    paired = difference(better, baseline)
    assert paired.value == pytest.approx(0.03)
    assert paired.high - paired.low < 0.2
    assert ratio([10, 20, 30], [20, 40, 60]) == pytest.approx((0.5, 0.5, 0.5))


def test_calibration_by_hand() -> None:
    """Two questions at 0.95, one of them right; one at 0.2, wrong."""
    found = calibration([0.95, 0.95, 0.2], [True, False, False])
    assert found is not None
    assert found.brier == pytest.approx((0.05**2 + 0.95**2 + 0.2**2) / 3)
    assert found.ece == pytest.approx((abs(1 - 1.9) + 0.2) / 3)
    certain = calibration([1.0, 0.95], [True, False])  # certainty is in the last bin, with what is above 0.9
    assert certain is not None
    assert certain.ece == pytest.approx(abs(1 - 1.95) / 2)
    assert calibration([], []) is None


def test_a_summary_compares_the_questions_both_answered() -> None:
    rows = [
        answered("a", "sc", True, 100), answered("b", "sc", False, 100), answered("c", "sc", True, 100),
        answered("a", "ac", True, 20), answered("b", "ac", True, 40, confidence=None, answer=None),
    ]  # fmt: skip
    summary = summarize("rows", rows, ["sc", "ac"])
    first, second = summary.strategies
    assert (first.right, first.questions, first.to_baseline) == (2, 3, None)
    assert second.to_baseline is not None
    assert second.to_baseline.value == pytest.approx(0.5)  # 2 of 2 against 1 of the same 2
    assert second.sampled_to_baseline is not None
    assert second.sampled_to_baseline.value == pytest.approx(60 / 200)
    assert second.calibration["reported"].questions == 1
    assert (second.unanswered, first.unanswered) == (1, 0)
    assert summary.single_path == pytest.approx(2 / 3)


def test_a_plateau_is_that_of_the_same_questions() -> None:
    """The baseline was run on the first alone, where its vote is right and one of its two paths."""
    half = {"texts": ("a", "b"), "right": (False, True)}
    base = answered("a", curve=[Point(10, False), Point(20, True)], **half)  # type: ignore[arg-type]
    other = [answered("a", "x", curve=[Point(10, True)]), answered("b", "x", False, curve=[Point(90, False)])]
    _, second = summarize("rows", [base, *other], ["sc", "x"]).strategies
    assert second.tokens_to == {"75%": 10, "90%": 10, "99%": 10}


def test_a_question_of_which_nothing_came_counts_on_both_sides_of_the_plateau() -> None:
    """Single paths are right 1/2 and 0, the votes 1 and 0: from 1/4 to 1/2."""
    half = {"texts": ("a", "b"), "right": (False, True)}
    base = answered("a", curve=[Point(10, False), Point(20, True)], **half)  # type: ignore[arg-type]
    lost = answered("b", correct=False, sampled=0, texts=(), outcome="failed", curve=[])
    summary = summarize("rows", [base, lost], ["sc"])
    assert summary.single_path == 0.25
    assert summary.strategies[0].tokens_to == {"75%": 10, "90%": 10, "99%": 10}


def test_strategies_without_a_question_in_common_are_not_compared() -> None:
    base = answered("a", texts=("a", "b"), right=(False, True), curve=[Point(20, True)])
    _, other = summarize("rows", [base, answered("b", "x")], ["sc", "x"]).strategies
    assert (other.to_baseline, other.sampled_to_baseline) == (None, None)
    assert set(other.tokens_to.values()) == {None}


def test_questions_without_a_token_leave_a_ratio() -> None:
    """Half of the resamples of two questions have no tokens of the one, or none but its."""
    rows = [answered("a", sampled=10), answered("b", sampled=0), answered("a", "x", sampled=5)]
    rows.append(answered("b", "x", sampled=0))
    summary = summarize("rows", rows, ["sc", "x"])
    assert summary.strategies[1].sampled_to_baseline == (0.5, 0.5, 0.5)
    assert Summary.model_validate_json(write_summary([summary])) == Summary(data=(summary,))


def test_every_tally_is_calibrated_by_the_answer_it_puts_first() -> None:
    """Roots say 2, which is wrong, all paths 1; the second question's say nothing of how sure they are."""
    tallies = {"root": {"votes": {"2": 2, "1": 1}, "confidence": 0.75}, "pooled": {"votes": {"1": 3}, "confidence": 1}}
    votes = [
        {"branch": i, "answer": vote, "vote": vote, "text": vote, "tokens": 1, "parent": None, "prefix_tokens": 0,
         "prefix_chars": 0, "stop_reason": "end"}
        for i, vote in enumerate("2121")
    ]  # fmt: skip
    rows = [
        answered("a", paths=votes, right=[vote["vote"] == "1" for vote in votes], tallies=tallies),
        answered("b", confidence=None, tallies={"root": {"votes": {}, "confidence": None}}),
    ]
    (summary,) = summarize("rows", rows, ["sc"]).strategies
    assert {name: (one.questions, one.brier) for name, one in summary.calibration.items()} == {
        "reported": (1, pytest.approx(0.04)), "root": (1, 0.75**2), "pooled": (1, 0.0),
    }  # fmt: skip


def test_a_dollar_is_no_formula_and_nothing_sampled_is_drawn(recwarn: pytest.WarningsRecorder) -> None:
    rows = [answered("a", "x_$1_$2", sampled=0, data="c$5_$6")]
    assert plot(summarize("c$5_$6", rows, ["x_$1_$2"]), rows)["png"]
    assert not [each for each in recwarn if "log" in str(each.message)]


def test_paths_that_were_not_graded_are_none_of_this_version() -> None:
    with pytest.raises(ValidationError, match="1 paths, and 0 of them graded"):
        answered(right=())


def test_metrics_stand_under_their_names() -> None:
    rows = [answered("a", metrics={"f1": 0.5}), answered("a", "x", metrics={"bleu": 0.25, "f1": 1.0})]
    summary = summarize("rows", rows, ["sc", "x"])
    assert summary.metrics == ["f1", "bleu"]
    page = render("t", [section(summary, rows, None)])
    assert "<th>f1</th><th>bleu</th>" in page
    assert "<td>0.500</td><td></td>" in page
    assert "<td>1.000</td><td>0.250</td>" in page


def test_seconds_are_told_of_what_was_drawn_alone() -> None:
    drawn, replayed = answered("a"), answered("b", replayed=1, usage={"sampled": 1, "seconds": 9.0})
    (summary,) = summarize("rows", [drawn, replayed], ["sc"]).strategies
    assert (summary.seconds_p50, summary.seconds_p95) == (2.0, 2.0)
    (summary,) = summarize("rows", [replayed], ["sc"]).strategies
    assert summary.seconds_p50 is None
    many = [answered(str(i), usage={"sampled": 1, "seconds": float(i)}) for i in range(21)]  # 0 to 20
    (summary,) = summarize("rows", many[::-1], ["sc"]).strategies
    assert (summary.seconds_p50, summary.seconds_p95) == (10.0, 19.0)
    (summary,) = summarize("rows", many[1:10:8], ["sc"]).strategies
    assert summary.seconds_p50 == 5.0  # between 1 and 9


def test_every_cost_in_the_ledger_is_summed() -> None:
    usage = {"prompt": 3, "reused": 5, "prefilled": 7, "sampled": 11, "discarded": 2, "drafted": 13, "accepted": 12,
             "scored": 17, "forward_passes": 1.5, "seconds": 2.0}  # fmt: skip
    (summary,) = summarize("rows", [answered("a", usage=usage), answered("b", usage=usage)], ["sc"]).strategies
    told = summary.usage.model_dump()
    assert {name: told[name] for name in usage} == {name: 2 * value for name, value in usage.items()}
    assert summary.sampled == 22


def test_tokens_to_the_plateau_by_hand() -> None:
    """Single paths are right in a quarter of cases, the vote in all: three quarters of the way is 0.8125."""
    curve = [Point(10, False), Point(20, True), Point(30, True), Point(40, True)]
    late = [Point(10, False), Point(20, False), Point(30, True), Point(40, True)]
    four = {"texts": ("a", "b", "c", "d"), "right": (True, False, False, False)}
    rows = [answered("a", curve=curve, **four), answered("b", curve=late, **four)]  # type: ignore[arg-type]
    assert points(rows) == [(10, 0), (20, 0.5), (30, 1), (40, 1)]
    (summary,) = summarize("rows", rows, ["sc"]).strategies
    assert summary.tokens_to == {"75%": 30, "90%": 30, "99%": 30}
    stopped = [answered("a", curve=curve[:2], **four), answered("b", curve=late[:2], **four)]  # type: ignore[arg-type]
    _, other = summarize(
        "rows", [*rows, *(one.model_copy(update={"strategy": "x"}) for one in stopped)], ["sc", "x"]
    ).strategies
    assert other.tokens_to["75%"] is None
    # One that failed before its first branch stays wrong all along.
    broken = answered("c", correct=False, sampled=0, texts=(), curve=[], outcome="failed")
    assert points([*rows, broken]) == [(20 / 3, 0), (40 / 3, 1 / 3), (20, 2 / 3), (80 / 3, 2 / 3)]
    assert points([broken]) == []
    # Votes that are no better than one path have no way to a plateau.
    flat = [answered("a", curve=[Point(10, True)]), answered("b", correct=False, curve=[Point(10, False)])]
    (summary,) = summarize("rows", flat, ["sc"]).strategies
    assert summary.tokens_to == {"75%": None, "90%": None, "99%": None}


def texts(segment: Segment) -> list[str]:
    return [segment.text, *(text for child in segment.children for text in texts(child))]


def test_what_paths_have_in_common_is_in_the_tree_once() -> None:
    start = "Let us begin here. "
    one = answered(
        texts=(f"{start}Then left.", f"{start}Then right turn.", "Elsewhere entirely.", f"{start}Then left.")
    )
    tree = path_tree(one)
    assert texts(tree) == ["", start + "Then ", "left.", "right turn.", "Elsewhere entirely."]
    assert tree.paths == 4
    shared, other = tree.children
    assert [leaf.path.branch for leaf in shared.children[0].ends] == [0, 3]
    assert other.ends[0].path.branch == 2


def test_paths_that_share_a_few_characters_stay_apart() -> None:
    assert texts(path_tree(answered(texts=("To go left", "To go right")))) == ["", "To go left", "To go right"]
    assert texts(path_tree(answered(texts=("", "To go")))) == ["", "To go"]


class Tags(HTMLParser):
    """Every tag and what is written between them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.said = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.extend(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.said += data


def test_nothing_a_model_or_a_data_set_wrote_is_markup() -> None:
    one = answered(
        EVIL, EVIL, texts=(EVIL, f"{EVIL} more"), question=EVIL, reference=EVIL, answer=EVIL, votes={EVIL: 2.0},
        degraded=[EVIL], errors=[EVIL],
    )  # fmt: skip
    summary = summarize(EVIL, [one], [EVIL])
    svg = plot(summary, [one])["svg"].decode()
    page = Tags()
    page.feed(render(EVIL, [section(summary, [one], svg[svg.index("<svg") :])]))
    assert not {"script", "img", "iframe", "link"} & set(page.tags)
    assert not any(name.startswith("on") for name in page.attributes)
    assert page.said.count(EVIL) >= 8
    assert "default-src 'none'" in render("t", [])


def test_metrics_of_texts_by_hand() -> None:
    assert overlap("The cat sat.", "a cat sat down") == pytest.approx(
        {"exact_match": 0.0, "precision": 1.0, "recall": 2 / 3, "f1": 0.8}
    )
    assert overlap(None, "x") == {"exact_match": 0.0, "precision": 0.0, "recall": 0.0, "f1": 0.0}
    same = resemblance("the quick brown fox jumps", "the quick brown fox jumps")
    assert same == pytest.approx({"bleu": 1.0, "rouge_l": 1.0})
    other = resemblance("the quick brown fox", "the quick brown fox jumps")
    assert other["rouge_l"] == pytest.approx(2 * 1 * 0.8 / 1.8)
    assert 0 < other["bleu"] < 1
    assert resemblance(None, "x") == {"bleu": 0.0, "rouge_l": 0.0}


async def test_perplexity_is_that_of_the_model_by_itself(
    tiny_engine: Engine, tokenizer: PreTrainedTokenizerBase, tiny_model_folder: Path
) -> None:
    """exp of the mean negative log-likelihood of the text's tokens, by transformers' own logits."""
    task, text = TASKS["text"], " A reply of some words."
    messages = task.render("Who?")
    prompt = (await tiny_engine.root(messages, 1)).token_ids
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float64)
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, *tokens]])).logits[0]
    losses = torch.nn.functional.cross_entropy(logits[len(prompt) - 1 : -1], torch.tensor(tokens))
    assert await perplexity(tiny_engine, task, "Who?", text) == pytest.approx(float(losses.exp()), rel=1e-4)


def test_report_writes_a_table_pictures_and_a_page(tmp_path: Path) -> None:
    rows = [answered(str(i), name, i % 2 == 0, tokens) for i in range(4) for name, tokens in (("sc", 100), ("ac", 30))]
    (tmp_path / "results.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in rows))
    done = run("report", str(tmp_path))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "rows, 4 questions"
    assert lines[2].split()[:4] == ["sc", "2", "of", "4"]
    assert "-70.0%" in lines[3]
    assert (tmp_path / "accuracy-rows.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "accuracy-rows.svg").read_text()
    page = Tags()
    page.feed((tmp_path / "report.html").read_text())
    assert page.tags.count("details") == 4 + 8
    other = run("report", str(tmp_path), "--baseline", "ac")
    assert other.stdout.splitlines()[2].split()[0] == "ac"
    refused = run("report", str(tmp_path), "--baseline", "xx")
    assert "baseline: 'xx' was not run; use one of sc, ac" in refused.stderr.replace("--", "")


def test_rows_that_compare_texts_get_metrics(tmp_path: Path, tiny_model_folder: Path) -> None:
    row = {"id": "a", "question": "Say something.", "answer": "Something long.", "answer_type": "reference"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    arguments = ["--model", str(tiny_model_folder), "--max-tokens", "8", "--strategy", "greedy", "--out", "out"]
    done = run("eval", "rows.jsonl", *arguments, cwd=tmp_path, chosen={"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    (strategy,) = summary["data"][0]["strategies"]
    assert set(strategy["metrics"]) == {"exact_match", "precision", "recall", "f1", "bleu", "rouge_l"}
    assert done.stdout.splitlines()[1].split()[-7:] == ["f1", "precision", "recall", "rouge", "l", "p50", "s"]
    assert run("report", "out", cwd=tmp_path).returncode == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<th>exact match</th><th>f1</th><th>precision</th><th>recall</th><th>rouge l</th></tr>" in page
