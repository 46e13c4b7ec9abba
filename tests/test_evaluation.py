"""Reading questions, scoring answers, comparing strategies."""

from collections.abc import Sequence
from pathlib import Path

import pytest

import branchwise as bw
from branchwise.backends.scripted import Reply, ScriptedBackend
from branchwise.consistency.samples import Samples
from branchwise.evaluation.dataset import Row, read_rows
from branchwise.evaluation.run import Graded, evaluate, is_correct

GOOD = '{"id": "a", "question": "q", "answer": "1"}'
ROWS = Path(__file__).parent / "data" / "gsm8k.jsonl"


def test_rows_are_read_by_path_or_by_name_in_the_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = read_rows(str(ROWS))
    assert [row.answer_type for row in rows] == ["number"] * len(rows)
    assert len(read_rows(str(ROWS), limit=2)) == 2
    monkeypatch.delenv("BRANCHWISE_DATA", raising=False)
    with pytest.raises(bw.ConfigError, match="data: there is no file gsm8k; give a path, or set BRANCHWISE_DATA"):
        read_rows("gsm8k")
    monkeypatch.setenv("BRANCHWISE_DATA", str(ROWS.parent))
    assert read_rows("gsm8k") == read_rows("gsm8k.jsonl") == rows


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1, JSON"),
        ('{"id": "a", "answer": "1"}', "line 1, question: Field required"),
        ('{"id": "a", "question": "q", "answer": 1}', "line 1, answer"),
        ('{"id": "a", "question": "q", "answer": "1", "answer_type": "tests"}', "answer_type: 'tests'"),
        ("[1]", "line 1, JSON"),
        (f"{GOOD}\n\n{{}}", "line 3, id: Field required"),
        ("", "holds no rows"),
        ("\udcff", "cannot read .* in UTF-8"),
    ],
)
def test_a_bad_row_is_named(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(line + "\n", encoding="utf-8", errors="surrogateescape")
    with pytest.raises(bw.ConfigError, match=message) as caught:
        read_rows(str(tmp_path / "rows.jsonl"))
    assert "\n" not in str(caught.value)


def test_rows_after_the_limit_are_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(f"{GOOD}\n{{\n")
    assert [row.id for row in read_rows(str(tmp_path / "rows.jsonl"), limit=1)] == ["a"]


@pytest.mark.parametrize(
    ("answer_type", "reference", "answer", "right"),
    [
        ("number", "1234", "1,234", True),
        ("number", "72", "72 clips", True),
        ("number", "72", "27", False),
        ("number", "72", None, False),
        ("latex", "\\frac{1}{2}", "0.5", True),
        ("letter", "B", "(b)", True),
        ("letter", "B", "C", False),
        ("yes_no", "yes", "True", True),
        ("boolean", "False", "no", True),
        ("text", "New York", "new  york.", True),
    ],
)
async def test_an_answer_is_right_where_it_means_the_reference(
    answer_type: str, reference: str, answer: str | None, right: bool
) -> None:
    row = Row(id="a", question="q", answer=reference, answer_type=answer_type)
    assert await is_correct(row, answer) is right


async def test_strategies_are_compared_on_the_same_questions() -> None:
    rows = [Row(id=str(i), question=f"q{i}", answer=str(i)) for i in range(3)]
    backend = ScriptedBackend({"": ["First. Then. The answer is 1."], "First.": [" Then. The answer is 1."]})
    seen: list[tuple[str, str]] = []

    def on_graded(strategy: str, graded: Graded) -> None:
        seen.append((strategy, graded.row.id))

    strategies = {"sc": bw.SelfConsistency(4), "pc": bw.PathConsistency(4)}
    first, second = await evaluate(
        rows, strategies, backend, seed=0, concurrency=2, on_graded=on_graded, stop=bw.Stop()
    )
    assert (first.strategy, second.strategy) == ("sc", "pc")
    assert first.accuracy == second.accuracy == pytest.approx(1 / 3)
    assert [item.row for item in first.graded] == rows
    # Four paths of nine tokens each for every question; the second took over what agreed.
    assert first.usage.sampled == sum(item.result.usage.sampled for item in first.graded) == 3 * 4 * 9
    assert second.usage.sampled == sum(item.result.usage.sampled for item in second.graded) <= first.usage.sampled
    # What came before is not held against nor for the second: each pays for its own prompts.
    assert first.usage.prefilled == second.usage.prefilled > 0
    assert sorted(seen) == sorted((name, str(i)) for name in strategies for i in range(3))


async def test_a_stopped_evaluation_keeps_what_was_scored() -> None:
    rows = [Row(id=str(i), question=f"q{i}", answer="1") for i in range(5)]
    stop, seen = bw.Stop(), []

    def on_graded(strategy: str, graded: Graded) -> None:
        seen.append(graded)
        if len(seen) == 2:
            stop.set()

    backend = ScriptedBackend({"": ["The answer is 1."]})
    summaries = await evaluate(
        rows, {"sc": bw.SelfConsistency(2)}, backend, seed=0, concurrency=1, on_graded=on_graded, stop=stop
    )
    assert len(summaries[0].graded) == 2


async def test_a_question_cut_short_is_not_scored() -> None:
    rows = [Row(id=str(i), question=f"q{i}", answer="1") for i in range(2)]
    stop, seen = bw.Stop(), []

    def on_graded(strategy: str, graded: Graded) -> None:
        seen.append(graded.row.id)
        stop.set()

    def reply(path: bw.Path, before: int) -> Reply:  # the second question's words take their time
        return Reply("The answer is 1.", delay=0.0 if "q0" in str(path.root.messages) else 0.2)

    strategies = {"sc": bw.SelfConsistency(2), "pc": bw.PathConsistency(2)}
    summaries = await evaluate(
        rows, strategies, ScriptedBackend(reply), seed=0, concurrency=2, on_graded=on_graded, stop=stop
    )
    assert seen == ["0"]
    assert [(summary.strategy, summary.accuracy) for summary in summaries] == [("sc", 1.0)]


async def test_a_question_too_long_fails_alone() -> None:
    rows = [Row(id="long", question="word " * 100, answer="1"), Row(id="a", question="q", answer="1")]
    backend = ScriptedBackend({"": ["The answer is 1."]}, capabilities=bw.Capabilities(model="short", context=60))
    (summary,) = await evaluate(
        rows,
        {"greedy": bw.Greedy()},
        backend,
        seed=0,
        concurrency=1,
        on_graded=lambda strategy, graded: None,
        stop=bw.Stop(),
    )
    long, short = summary.graded
    assert (long.correct, long.result.outcome) == (False, bw.Outcome.FAILED)
    assert "its prompt is" in long.result.errors[0]
    assert (short.correct, summary.accuracy) == (True, 0.5)


class Checked(bw.Greedy):
    """Checks its prompt, for which a verifier is needed."""

    def more(self, samples: Samples) -> Sequence[bw.Action]:
        return [bw.Verify(samples.root)]


async def test_a_mistake_in_the_setup_ends_the_evaluation() -> None:
    with pytest.raises(bw.ConfigError, match="verifier"):
        await evaluate(
            [Row(id="a", question="q", answer="1")],
            {"checked": Checked()},
            ScriptedBackend({"": ["The answer is 1."]}),
            seed=0,
            concurrency=1,
            on_graded=lambda strategy, graded: None,
            stop=bw.Stop(),
        )


class Superstitious(bw.Greedy):
    """A bug that one question brings to light."""

    def decide(self, samples: Samples) -> bw.Decision:
        if "13" in str(samples.root.messages):
            raise LookupError("unlucky")
        return super().decide(samples)


class Absent(ScriptedBackend):
    """Has no model for one question."""

    async def root(self, messages: bw.Messages, key: int) -> bw.Path:
        if "gone" in str(messages):
            raise bw.BackendError("no model", retryable=False, hint="look for it")
        return await super().root(messages, key)


async def test_a_failing_question_loses_no_other_and_its_outcome_is_kept() -> None:
    questions = ["12", "13", "gone", "", "14"]
    rows = [Row(id=question, question=question, answer="1") for question in questions]
    (summary,) = await evaluate(
        rows,
        {"superstitious": Superstitious()},
        Absent({"": ["The answer is 1."]}),
        seed=0,
        concurrency=2,
        on_graded=lambda strategy, graded: None,
        stop=bw.Stop(),
    )
    assert [item.row.id for item in summary.graded] == questions
    complete, failed = bw.Outcome.COMPLETE, bw.Outcome.FAILED
    assert [item.result.outcome for item in summary.graded] == [complete, failed, failed, failed, complete]
    assert [item.correct for item in summary.graded] == [True, False, False, False, True]
    said = ["", "LookupError: unlucky", "no model", "question: is empty", ""]
    assert all(words in "".join(item.result.errors) for words, item in zip(said, summary.graded, strict=True))


async def test_an_answer_that_cannot_be_graded_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(row: Row, answer: str | None) -> bool:
        raise RecursionError("deep")

    monkeypatch.setattr("branchwise.evaluation.run.is_correct", fail)
    (summary,) = await evaluate(
        [Row(id="a", question="q", answer="1")],
        {"greedy": bw.Greedy()},
        ScriptedBackend({"": ["The answer is 1."]}),
        seed=0,
        concurrency=1,
        on_graded=lambda strategy, graded: None,
        stop=bw.Stop(),
    )
    (item,) = summary.graded
    assert (item.correct, item.result.answer) == (False, "1")
    assert "RecursionError" in item.result.errors[0]


async def test_what_the_caller_raises_stops_every_question() -> None:
    def on_graded(strategy: str, graded: Graded) -> None:
        raise OSError("the disk is full")

    backend = ScriptedBackend(
        lambda path, before: Reply("The answer is 1.", delay=0.0 if "q0" in str(path.root.messages) else 9)
    )
    rows = [Row(id=str(i), question=f"q{i}", answer="1") for i in range(3)]
    with pytest.raises(OSError, match="full"):
        await evaluate(
            rows, {"greedy": bw.Greedy()}, backend, seed=0, concurrency=3, on_graded=on_graded, stop=bw.Stop()
        )
    assert not backend.running
