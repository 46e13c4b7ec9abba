"""Reading questions, scoring answers, comparing strategies."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

import branchwise as bw
from branchwise.backends.base import Backend
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.evaluation.answered import Answered
from branchwise.evaluation.dataset import Row, read_rows
from branchwise.evaluation.grade import is_correct
from branchwise.evaluation.journal import Journal, Settings, read_answered
from branchwise.evaluation.pool import Pool, recording
from branchwise.evaluation.report.summary import summarize
from branchwise.evaluation.run import Plan, evaluate
from branchwise.sandbox.sandbox import SandboxError
from branchwise.strategies.samples import Samples
from branchwise.strategies.strategy import AnyStrategy

GOOD = '{"id": "a", "question": "q", "answer": "1"}'
ROWS = Path(__file__).parents[1] / "data" / "gsm8k.jsonl"


def test_rows_are_read_by_path_or_by_name_in_the_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = read_rows(str(ROWS))
    assert [row.answer_type for row in rows] == ["number"] * len(rows)
    assert len(read_rows(str(ROWS), limit=2)) == 2
    monkeypatch.delenv("BRANCHWISE_DATA", raising=False)
    with pytest.raises(bw.ConfigError, match="data: there is no file gsm8k; give a path, or set BRANCHWISE_DATA"):
        read_rows("gsm8k")
    monkeypatch.setenv("BRANCHWISE_DATA", str(ROWS.parent))
    assert read_rows("gsm8k") == read_rows("gsm8k.jsonl") == rows
    for name in ("~nobody/gsm8k.jsonl", "g" * 300, "g" * 5_000, "\0"):  # of nobody's home, too long, no name
        with pytest.raises(bw.ConfigError, match="data: there is no file"):
            read_rows(name)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1, JSON"),
        ('{"id": "a", "answer": "1"}', "line 1, question: Field required"),
        ('{"id": "a", "question": "q", "answer": 1}', "line 1, answer"),
        ('{"id": "a", "question": "q", "answer": "1", "answer_type": "tests"}', "answer_type: 'tests'"),
        ('{"id": "a", "question": "q", "answer": " "}', "line 1, answer: is empty; give the reference answer"),
        ('{"id": "a", "question": "q", "answer": "many"}', "answer: 'many' is no number; mend it"),
        ('{"id": "a", "question": "q", "answer": "B. Paris", "answer_type": "letter"}', "'B. Paris' is no letter"),
        ('{"id": "a", "question": "q", "answer": "maybe", "answer_type": "yes_no"}', "'maybe' is no yes or no"),
        ('{"id": "a", "question": "q", "answer": "5", "answer_type": "letter"}', "'5' is no letter"),
        ('{"id": "a", "question": "q", "answer": "x1"}', "'x1' is no number"),
        ("[1]", "line 1, JSON"),
        (f"{GOOD}\n\n{{}}", "line 3, id: Field required"),
        ("", "holds no rows"),
        (f"{GOOD}\n{GOOD}", "holds the id 'a' more than once"),
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
        ("boolean", "True", "False", False),
        ("text", "New York", "new  york.", True),
    ],
)
async def test_an_answer_is_right_where_it_means_the_reference(
    answer_type: str, reference: str, answer: str | None, right: bool
) -> None:
    row = Row(id="a", question="q", answer=reference, answer_type=answer_type)
    assert await is_correct(row, answer) is right


async def test_a_truth_value_is_asked_for_and_told_as_one() -> None:
    """A model that is to say yes or no of "not True" tends to yes, whatever it found."""
    row = Row(id="a", question="not True is", answer="False", answer_type="boolean")
    assert '"The answer is False"' in row.task.instruction
    (told,) = await run([row], {"greedy": bw.Greedy()}, ScriptedBackend({"": ["The answer is false."]}))
    assert (told.answer, told.votes, told.correct) == ("False", {"False": 1.0}, True)


async def run(
    rows: Sequence[Row],
    strategies: Mapping[str, AnyStrategy],
    backend: Backend,
    *,
    concurrency: int = 1,
    on_answered: Callable[[Answered], None] = lambda one: None,
    stop: bw.Stop | None = None,
    done: Mapping[tuple[str, str], str] | None = None,
) -> list[Answered]:
    """Everything that was answered, in the order in which it was told."""
    told: list[Answered] = []

    def tell(one: Answered) -> None:
        told.append(one)
        on_answered(one)

    plan = Plan("rows", rows, strategies, concurrency=concurrency, done=done or {})
    await evaluate(plan, lambda name: backend, tell, stop or bw.Stop())
    return told


def numbered(count: int, answer: str = "1") -> list[Row]:
    return [Row(id=str(i), question=f"q{i}", answer=answer) for i in range(count)]


async def test_strategies_are_compared_on_the_same_questions() -> None:
    rows = [Row(id=str(i), question=f"q{i}", answer=str(i)) for i in range(3)]
    backend = ScriptedBackend({"": ["First. Then. The answer is 1."], "First.": [" Then. The answer is 1."]})
    strategies = {"sc": bw.SelfConsistency(4), "pc": bw.PathConsistency(4)}
    told = await run(rows, strategies, backend, concurrency=2)
    assert sorted((one.strategy, one.id) for one in told) == sorted((n, str(i)) for n in strategies for i in range(3))
    summary = summarize("rows", told, ["sc", "pc"])
    first, second = summary.strategies
    assert (first.strategy, second.strategy, summary.baseline) == ("sc", "pc", "sc")
    assert first.accuracy.value == second.accuracy.value == pytest.approx(1 / 3)
    # Four paths of nine tokens each for every question; the second took over what agreed.
    assert first.sampled == first.usage.sampled == 3 * 4 * 9
    assert second.sampled <= first.sampled
    # What came before is not held against nor for the second: each pays for its own prompts.
    assert first.usage.prefilled == second.usage.prefilled > 0


async def test_every_question_has_a_budget_of_its_own() -> None:
    told: list[Answered] = []
    backend = ScriptedBackend({"": ["So. The answer is 1."]})  # seven tokens
    strategies = {"sc": bw.SelfConsistency(4), "blend": bw.BlendASC(4)}
    plan = Plan("rows", numbered(3), strategies, budget_tokens=21)
    await evaluate(plan, lambda name: backend, told.append, bw.Stop())
    assert [one.outcome for one in told if one.strategy == "sc"] == ["tokens_spent"] * 3
    assert [one.usage.sampled for one in told if one.strategy == "sc"] == [21] * 3
    assert sum(one.usage.sampled for one in told if one.strategy == "blend") == 63  # in all: they share it


async def test_where_a_question_stood_is_kept_branch_by_branch() -> None:
    backend = ScriptedBackend({"": [f"The answer is {answer}." for answer in "2112"]})
    (one,) = await run([Row(id="a", question="q", answer="1")], {"sc": bw.SelfConsistency(4)}, backend)
    assert [path.vote for path in one.paths] == ["2", "1", "1", "2"]
    assert one.right == (False, True, True, False)
    # Five tokens a path; 2 leads, then ties first come first, then 1, then a tie that 2 leads again.
    assert one.curve == ((5, False), (10, False), (15, True), (20, False))


async def test_a_stopped_evaluation_keeps_what_was_scored() -> None:
    stop, seen = bw.Stop(), []

    def on_answered(one: Answered) -> None:
        seen.append(one)
        if len(seen) == 2:
            stop.set()

    backend = ScriptedBackend({"": ["The answer is 1."]})
    told = await run(numbered(5), {"sc": bw.SelfConsistency(2)}, backend, on_answered=on_answered, stop=stop)
    assert len(told) == 2


async def test_a_question_cut_short_is_not_scored() -> None:
    stop = bw.Stop()

    def reply(path: bw.Path, before: int) -> Reply:  # the second question's words take their time
        return Reply("The answer is 1.", delay=0.0 if "q0" in str(path.root.messages) else 0.2)

    strategies = {"sc": bw.SelfConsistency(2), "pc": bw.PathConsistency(2)}
    told = await run(
        numbered(2), strategies, ScriptedBackend(reply), concurrency=2, on_answered=lambda one: stop.set(), stop=stop
    )
    assert [(one.strategy, one.id, one.correct) for one in told] == [("sc", "0", True)]


async def test_a_question_too_long_fails_alone() -> None:
    rows = [Row(id="long", question="word " * 100, answer="1"), Row(id="a", question="q", answer="1")]
    backend = ScriptedBackend({"": ["The answer is 1."]}, capabilities=bw.Capabilities(model="short", context=60))
    long, short = await run(rows, {"greedy": bw.Greedy()}, backend)
    assert (long.correct, long.failed) == (False, True)
    assert "its prompt is" in long.errors[0]
    assert (short.correct, short.failed) == (True, False)
    (summary,) = summarize("rows", [long, short], ["greedy"]).strategies
    assert (summary.accuracy.value, summary.failed, summary.unanswered) == (0.5, 1, 1)


class Checked(bw.Greedy):
    """Checks its prompt, for which a verifier is needed."""

    def next_actions(self, samples: Samples) -> Sequence[bw.Action]:
        return [bw.Verify(samples.root)]


async def test_a_mistake_in_the_setup_ends_the_evaluation() -> None:
    with pytest.raises(bw.ConfigError, match="verifier"):
        await run(numbered(1), {"checked": Checked()}, ScriptedBackend({"": ["The answer is 1."]}))


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
    backend = Absent({"": ["The answer is 1."]})
    told = {one.id: one for one in await run(rows, {"superstitious": Superstitious()}, backend, concurrency=2)}
    items = [told[question] for question in questions]
    assert [one.outcome for one in items] == ["complete", "failed", "failed", "failed", "complete"]
    assert [one.correct for one in items] == [True, False, False, False, True]
    said = ["", "LookupError: unlucky", "no model", "question: is empty", ""]
    assert all(words in "".join(one.errors) for words, one in zip(said, items, strict=True))


async def test_an_answer_that_cannot_be_graded_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(row: Row, answer: str | None) -> bool:
        raise RecursionError("deep")

    monkeypatch.setattr("branchwise.evaluation.grade.is_correct", fail)
    (one,) = await run(numbered(1), {"greedy": bw.Greedy()}, ScriptedBackend({"": ["The answer is 1."]}))
    assert (one.correct, one.answer) == (False, "1")
    assert "RecursionError" in one.errors[0]


@pytest.mark.parametrize(
    "error",
    [SandboxError("there is no sandbox", "install one"), bw.MissingExtraError("sacrebleu", "metrics")],
)
async def test_answers_that_nobody_can_grade_here_are_not_called_wrong(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(row: Row, answer: str | None) -> bool:
        raise error

    monkeypatch.setattr("branchwise.evaluation.grade.is_correct", fail)
    with pytest.raises(type(error), match="install"):
        await run(numbered(1), {"greedy": bw.Greedy()}, ScriptedBackend({"": ["The answer is 1."]}))


def test_texts_are_not_compared_without_the_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first question, not after it."""
    row = {"id": "a", "question": "q", "answer": "Paris", "answer_type": "reference"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    assert len(read_rows(str(tmp_path / "rows.jsonl"))) == 1
    monkeypatch.setattr("branchwise.evaluation.metrics.find_spec", lambda name: None)
    with pytest.raises(bw.MissingExtraError, match=r"branchwise\[metrics\]"):
        read_rows(str(tmp_path / "rows.jsonl"))


async def test_what_failed_is_tried_anew_and_nothing_else(tmp_path: Path) -> None:
    rows, strategies = numbered(3), {"sc": bw.SelfConsistency(2)}
    settings = Settings.of("scripted", 0, None, ScriptedBackend({}).capabilities, strategies)

    async def answer(backend: ScriptedBackend) -> list[Answered]:
        with Journal(tmp_path, settings) as journal:
            told = await run(rows, strategies, backend, on_answered=journal.add, done=journal.done("rows", rows))
            assert len(journal.answered) == 3
        return told

    down = Reply("The", fail_after=1)
    backend = ScriptedBackend(lambda path, before: down if "q1" in str(path.root.messages) else "The answer is 1.")
    assert [one.failed for one in await answer(backend)] == [False, True, False]
    (again,) = await answer(ScriptedBackend({"": ["The answer is 1."]}))
    assert (again.id, again.failed, again.correct) == ("1", False, True)
    kept = read_answered(tmp_path)
    assert [(one.id, one.correct) for one in kept] == [("0", True), ("1", True), ("2", True)]
    assert await answer(backend) == []
    failed = again.model_copy(update={"outcome": "failed", "correct": False})
    with Journal(tmp_path, settings) as journal:
        journal.add(failed)  # as in a batch that is answered anew, for another's sake
        assert [one.correct for one in journal.answered] == [True] * 3
    assert [one.correct for one in read_answered(tmp_path)] == [True] * 3


async def test_what_the_caller_raises_stops_every_question() -> None:
    def on_answered(one: Answered) -> None:
        raise OSError("the disk is full")

    backend = ScriptedBackend(
        lambda path, before: Reply("The answer is 1.", delay=0.0 if "q0" in str(path.root.messages) else 9)
    )
    with pytest.raises(OSError, match="full"):
        await run(numbered(3), {"greedy": bw.Greedy()}, backend, concurrency=3, on_answered=on_answered)
    assert not backend.running


async def test_a_strategy_that_moves_work_between_questions_gets_them_all_at_once() -> None:
    """Four of six paths go to the question whose paths disagree."""

    def reply(path: bw.Path, before: int) -> str:
        return f"The answer is {before % 2 if 'q1' in str(path.root.messages) else 1}."

    strategy = bw.BlendASC(3, window=1)
    told = {one.id: one for one in await run(numbered(2), {"blend": strategy}, ScriptedBackend(reply))}
    assert len(told["0"].paths) + len(told["1"].paths) == 6
    assert len(told["1"].paths) > len(told["0"].paths)
    # Half a batch has no budget of its own: it is answered anew as a whole, with what it got before.
    done = {("blend", id_): one.batch for id_, one in told.items()}
    half = await run(numbered(2), {"blend": strategy}, ScriptedBackend(reply), done={("blend", "1"): told["1"].batch})
    assert {one.id: len(one.paths) for one in half} == {id_: len(one.paths) for id_, one in told.items()}
    assert await run(numbered(2), {"blend": strategy}, ScriptedBackend(reply), done=done) == []
    # A part of a batch, or more than it, is another batch.
    (alone,) = await run(numbered(2)[:1], {"blend": strategy}, ScriptedBackend(reply), done=done)
    assert (len(alone.paths), len(told["0"].paths)) == (3, 2)
    assert len(await run(numbered(3), {"blend": strategy}, ScriptedBackend(reply), done=done)) == 3


async def test_a_question_that_joins_another_batch_takes_those_of_its_old_one_away(tmp_path: Path) -> None:
    """They shared a budget with it that is spent otherwise now."""
    strategies = {"blend": bw.BlendASC(3, window=1)}
    backend = ScriptedBackend({"": ["The answer is 1."]})
    settings = Settings.of("scripted", 0, None, backend.capabilities, strategies)
    for rows in (numbered(4)[2:], numbered(2), numbered(1)):
        with Journal(tmp_path, settings) as journal:
            done = journal.done("rows", rows)
            await run(rows, strategies, backend, on_answered=journal.add, done=done)
            kept = journal.answered
        assert {one.id for one in kept} == {one.id for one in rows} | {"2", "3"}
        assert read_answered(tmp_path) == kept


async def test_a_pool_answers_a_strategy_from_what_it_drew_itself(tmp_path: Path) -> None:
    """Where probabilities are rounded, two strategies may have drawn different paths under one key."""
    said = {"a": "1", "b": "2", "b:paths=2": "3", "c": "4"}
    strategies = dict.fromkeys(said, bw.SelfConsistency(2))
    able = ScriptedBackend({}).capabilities
    with Journal(tmp_path, Settings.of("scripted", 0, None, able, strategies)) as journal:
        for name, answer in said.items():
            drawn = recording(name, able, ScriptedBackend({"": [f"The answer is {answer}."]}), None, journal)
            await run(numbered(1), {name: strategies[name]}, drawn, on_answered=journal.add)
    for name, answer in [*said.items(), ("other", "1")]:
        (one,) = await run(
            numbered(1), {name: bw.SelfConsistency(2)}, recording(name, able, None, Pool(tmp_path), None)
        )
        assert one.votes == {answer: 2}, name


async def test_questions_answered_before_are_left_out() -> None:
    backend = ScriptedBackend({"": ["The answer is 1."]})
    told = await run(numbered(3), {"sc": bw.SelfConsistency(2)}, backend, done={("sc", "1"): "", ("other", "2"): ""})
    assert [one.id for one in told] == ["0", "2"]
