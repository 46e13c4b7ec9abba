"""The evaluation loop: strategies, batches, stops and failures."""

from collections.abc import Sequence

import pytest

import branchwise as bw
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.evaluation import Answered, Plan, Row, evaluate, summarize
from branchwise.strategies.samples import Samples
from branchwise.strategies.strategy import AnyStrategy
from tests.support.evaluations import evaluate_rows, numbered_rows


async def test_strategies_are_compared_on_the_same_questions() -> None:
    rows = [Row(id=str(i), question=f"q{i}", answer=str(i)) for i in range(3)]
    backend = ScriptedBackend({"": ["First. Then. The answer is 1."], "First.": [" Then. The answer is 1."]})
    strategies: dict[str, AnyStrategy] = {"sc": bw.SelfConsistency(4), "pc": bw.PathConsistency(4)}
    answered = await evaluate_rows(rows, strategies, backend, concurrency=2)
    assert sorted((one.strategy, one.id) for one in answered) == sorted(
        (n, str(i)) for n in strategies for i in range(3)
    )
    summary = summarize("rows", answered, ["sc", "pc"])
    first, second = summary.strategies
    assert (first.strategy, second.strategy, summary.baseline) == ("sc", "pc", "sc")
    assert first.accuracy.value == second.accuracy.value == pytest.approx(1 / 3)
    # Four paths of nine tokens per question; path-consistency reuses prefixes.
    assert first.sampled == first.usage.sampled == 3 * 4 * 9
    assert second.sampled <= first.sampled
    # The cache is cleared between strategies: each prefills its own prompts.
    assert first.usage.prefilled == second.usage.prefilled > 0


async def test_every_question_has_its_own_budget() -> None:
    answered: list[Answered] = []
    backend = ScriptedBackend({"": ["So. The answer is 1."]})  # seven tokens
    strategies = {"sc": bw.SelfConsistency(4), "blend": bw.BlendASC(4)}
    plan = Plan("rows", numbered_rows(3), strategies, budget_tokens=21)
    await evaluate(plan, lambda name: backend, answered.append, bw.Stop())
    assert [one.outcome for one in answered if one.strategy == "sc"] == ["tokens_spent"] * 3
    assert [one.usage.sampled for one in answered if one.strategy == "sc"] == [21] * 3
    assert (
        sum(one.usage.sampled for one in answered if one.strategy == "blend") == 63
    )  # for all three questions, which share the budget


async def test_the_curve_has_a_point_after_each_branch() -> None:
    backend = ScriptedBackend({"": [f"The answer is {answer}." for answer in "2112"]})
    (one,) = await evaluate_rows([Row(id="a", question="q", answer="1")], {"sc": bw.SelfConsistency(4)}, backend)
    assert [path.vote for path in one.paths] == ["2", "1", "1", "2"]
    assert one.right == (False, True, True, False)
    # Five tokens per path. 2 leads, keeps the lead in a tie with 1, loses it to 1 and regains it in the last tie.
    assert one.curve == ((5, False), (10, False), (15, True), (20, False))


async def test_a_stopped_evaluation_keeps_graded_questions() -> None:
    stop, seen = bw.Stop(), []

    def on_answered(one: Answered) -> None:
        seen.append(one)
        if len(seen) == 2:
            stop.set()

    backend = ScriptedBackend({"": ["The answer is 1."]})
    answered = await evaluate_rows(
        numbered_rows(5), {"sc": bw.SelfConsistency(2)}, backend, on_answered=on_answered, stop=stop
    )
    assert len(answered) == 2


async def test_an_interrupted_question_is_left_out() -> None:
    stop = bw.Stop()

    def reply(path: bw.Path, before: int) -> Reply:  # the second question is slow
        return Reply("The answer is 1.", delay=0.0 if "q0" in str(path.root.messages) else 0.2)

    strategies: dict[str, AnyStrategy] = {"sc": bw.SelfConsistency(2), "pc": bw.PathConsistency(2)}
    answered = await evaluate_rows(
        numbered_rows(2),
        strategies,
        ScriptedBackend(reply),
        concurrency=2,
        on_answered=lambda one: stop.set(),
        stop=stop,
    )
    assert [(one.strategy, one.id, one.correct) for one in answered] == [("sc", "0", True)]


async def test_a_question_that_is_too_long_fails_alone() -> None:
    rows = [Row(id="long", question="word " * 100, answer="1"), Row(id="a", question="q", answer="1")]
    backend = ScriptedBackend({"": ["The answer is 1."]}, capabilities=bw.Capabilities(model="short", context=60))
    long, short = await evaluate_rows(rows, {"greedy": bw.Greedy()}, backend)
    assert (long.correct, long.failed) == (False, True)
    assert "its prompt is" in long.errors[0]
    assert (short.correct, short.failed) == (True, False)
    (summary,) = summarize("rows", [long, short], ["greedy"]).strategies
    assert (summary.accuracy.value, summary.failed, summary.unanswered) == (0.5, 1, 1)


class NeedsVerifier(bw.Greedy):
    """Greedy decoding that verifies its prompt."""

    def next_actions(self, samples: Samples) -> Sequence[bw.Action]:
        return [bw.Verify(samples.root)]


async def test_an_invalid_setup_ends_the_evaluation() -> None:
    with pytest.raises(bw.ConfigError, match="verifier"):
        await evaluate_rows(numbered_rows(1), {"checked": NeedsVerifier()}, ScriptedBackend({"": ["The answer is 1."]}))


class FailsOn13(bw.Greedy):
    """Greedy decoding with a bug that one question triggers."""

    def decide(self, samples: Samples) -> bw.Decision:
        if "13" in str(samples.root.messages):
            raise LookupError("unlucky")
        return super().decide(samples)


class FailsOnGone(ScriptedBackend):
    """Backend that fails for one question."""

    async def root(self, messages: bw.Messages, key: int) -> bw.Path:
        if "gone" in str(messages):
            raise bw.BackendError("no model", retryable=False, hint="look for it")
        return await super().root(messages, key)


async def test_a_failing_question_does_not_affect_the_others() -> None:
    questions = ["12", "13", "gone", "", "14"]
    rows = [Row(id=question, question=question, answer="1") for question in questions]
    backend = FailsOnGone({"": ["The answer is 1."]})
    rows_answered = await evaluate_rows(rows, {"buggy": FailsOn13()}, backend, concurrency=2)
    answered = {one.id: one for one in rows_answered}
    items = [answered[question] for question in questions]
    assert [one.outcome for one in items] == ["complete", "failed", "failed", "failed", "complete"]
    assert [one.correct for one in items] == [True, False, False, False, True]
    errors = ["", "LookupError: unlucky", "no model", "question: is empty", ""]
    assert all(words in "".join(one.errors) for words, one in zip(errors, items, strict=True))


async def test_an_error_of_the_callback_stops_every_question() -> None:
    def on_answered(one: Answered) -> None:
        raise OSError("the disk is full")

    backend = ScriptedBackend(
        lambda path, before: Reply("The answer is 1.", delay=0.0 if "q0" in str(path.root.messages) else 9)
    )
    with pytest.raises(OSError, match="full"):
        await evaluate_rows(numbered_rows(3), {"greedy": bw.Greedy()}, backend, concurrency=3, on_answered=on_answered)
    assert not backend.running


async def test_a_batched_strategy_gets_all_questions_at_once() -> None:
    """Most of the six paths go to the question whose paths disagree."""

    def reply(path: bw.Path, before: int) -> str:
        return f"The answer is {before % 2 if 'q1' in str(path.root.messages) else 1}."

    strategy = bw.BlendASC(3, window=1)
    answered = {
        one.id: one for one in await evaluate_rows(numbered_rows(2), {"blend": strategy}, ScriptedBackend(reply))
    }
    assert len(answered["0"].paths) + len(answered["1"].paths) == 6
    assert len(answered["1"].paths) > len(answered["0"].paths)
    # A batch that is answered in part is answered again as a whole, with equal results.
    done = {("blend", id_): one.batch for id_, one in answered.items()}
    half = await evaluate_rows(
        numbered_rows(2), {"blend": strategy}, ScriptedBackend(reply), done={("blend", "1"): answered["1"].batch}
    )
    assert {one.id: len(one.paths) for one in half} == {id_: len(one.paths) for id_, one in answered.items()}
    assert await evaluate_rows(numbered_rows(2), {"blend": strategy}, ScriptedBackend(reply), done=done) == []
    # A subset or a superset of a batch is another batch.
    (alone,) = await evaluate_rows(numbered_rows(2)[:1], {"blend": strategy}, ScriptedBackend(reply), done=done)
    assert (len(alone.paths), len(answered["0"].paths)) == (3, 2)
    assert len(await evaluate_rows(numbered_rows(3), {"blend": strategy}, ScriptedBackend(reply), done=done)) == 3


async def test_answered_questions_are_left_out() -> None:
    backend = ScriptedBackend({"": ["The answer is 1."]})
    answered = await evaluate_rows(
        numbered_rows(3), {"sc": bw.SelfConsistency(2)}, backend, done={("sc", "1"): "", ("other", "2"): ""}
    )
    assert [one.id for one in answered] == ["0", "2"]
