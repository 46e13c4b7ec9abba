"""The contract of every tree search: results repeat, events may come in any order, and failures cost one node."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

import branchwise as bw
from branchwise.backends.base import ExtendRequest
from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.backends.stream import Extension
from branchwise.core.messages import Messages
from branchwise.search.state import SearchState
from branchwise.search.tree_of_thoughts import ToTBFS, ToTDFS
from branchwise.search.values import ValueName
from branchwise.strategies.strategy import Decision
from tests.support.search_scripts import RecordingStrategy
from tests.support.searches import FULL, SEARCHES, backend, every_search, outcome, pseudorandom, score, solve

# Repetition and order of events


@every_search
def test_the_same_seed_gives_the_same_tree(name: str) -> None:
    first, second = (solve(SEARCHES[name], seed=3) for _ in range(2))
    assert outcome(first) == outcome(second)
    assert first.answer is not None
    assert first.outcome is bw.Outcome.COMPLETE
    assert not first.degraded
    assert not first.errors


@every_search
@pytest.mark.parametrize("salt", range(3))
def test_results_do_not_depend_on_the_order_of_replies_and_scores(name: str, salt: int) -> None:
    def wait(text: str) -> float:
        return pseudorandom(f"{salt} {text}") % 4 / 2000

    async def slow(path: bw.Path) -> float:
        await asyncio.sleep(wait(path.answer_text))
        return await score(path)

    assert outcome(solve(SEARCHES[name], backend=backend(wait), verifier=slow)) == outcome(solve(SEARCHES[name]))


@every_search
def test_a_batch_builds_the_trees_of_separate_runs(name: str) -> None:
    batch = asyncio.run(bw.solve_batch(["q", "another one"], backend(), strategy=SEARCHES[name], verifier=score))
    separate = [bw.solve_sync(q, backend(), strategy=SEARCHES[name], verifier=score) for q in ("q", "another one")]
    assert [outcome(result) for result in batch] == [outcome(result) for result in separate]


class RepeatingEvents(RecordingStrategy):
    """Sends every event twice, adds events of unknown requests, and sends all events again after the search."""

    events: list[bw.Event]

    def tell(self, state: list[SearchState], event: bw.Event) -> None:
        self.events = [*getattr(self, "events", ()), event]
        root = state[0].root
        for sent in (event, event, *self.unknown(root, event)):
            self.inner.tell(state, sent)

    def unknown(self, root: bw.Path, event: bw.Event) -> Sequence[bw.Event]:
        other = bw.Extend(root, 2)
        ends = [bw.Finished(0, other, 0, event.path, None, ())] if isinstance(event, bw.Finished) else []
        return [
            *ends,
            bw.Failed(0, other, 1, None),
            bw.Failed(0, bw.Verify(root), None, bw.BudgetError("budget_tokens")),
            bw.Verified(0, bw.Verify(root), 1.0),
            bw.Rooted(0, bw.Root(Messages(turns=())), root) if root.messages is None else bw.Failed(0, other, 7, None),
            bw.Progress(0, other, 0, 1, (1,), (), ()),
        ]

    def finish(self, state: list[SearchState]) -> Sequence[Decision]:
        before = self.inner.finish(state)
        for event in self.events:
            self.inner.tell(state, event)
        assert self.inner.ask(state) == []
        assert self.inner.finish(state) == before
        return before


@every_search
def test_repeated_late_and_unknown_events_are_ignored(name: str) -> None:
    assert outcome(solve(RepeatingEvents(SEARCHES[name]))) == outcome(solve(SEARCHES[name]))


class DecidingOften(RecordingStrategy):
    """Computes the decision before and after every event."""

    answers_so_far: list[str | None]

    def tell(self, state: list[SearchState], event: bw.Event) -> None:
        self.inner.tell(state, event)
        assert self.inner.finish(state) == self.inner.finish(state)

    def ask(self, state: list[SearchState]) -> Sequence[bw.Action]:
        actions = self.inner.ask(state)
        (decision,) = self.inner.finish(state)
        answer = None if decision.answer is None else decision.answer.value
        self.answers_so_far = [*getattr(self, "answers_so_far", ()), answer]
        valued = {node.answer.value for node in state[0].nodes if node.answer and node.value is not None}
        assert answer in valued or not valued, "a valued answer comes before one without a value"
        return actions


@every_search
@pytest.mark.parametrize("shift", [0, -1])
def test_the_decision_can_be_computed_at_any_time(name: str, shift: int) -> None:
    async def shifted(path: bw.Path) -> float:
        return await score(path) + shift

    strategy = SEARCHES[name]
    if isinstance(strategy, ToTBFS | ToTDFS):
        strategy = replace(strategy, threshold=shift)
    recorder = DecidingOften(strategy)
    result = solve(recorder, verifier=shifted)
    assert outcome(result) == outcome(solve(strategy, verifier=shifted))
    assert recorder.answers_so_far[-1] == result.answer
    first = next(place for place, answer in enumerate(recorder.answers_so_far) if answer is not None)
    assert None not in recorder.answers_so_far[first:]


# Failures


@every_search
def test_a_failing_verifier_call_costs_one_node(name: str) -> None:
    plain = solve(SEARCHES[name])
    lost = plain.tree.nodes[1]

    async def fragile(path: bw.Path) -> float:
        if path.whole_text == lost.text:
            raise ZeroDivisionError("boom")
        return await score(path)

    result = solve(SEARCHES[name], verifier=fragile)
    assert result.answer is not None
    assert not result.degraded
    failed = [node for node in result.tree.nodes if node.state == "failed"]
    assert failed
    assert all(node.text == lost.text and "boom" in node.note for node in failed)
    assert all(not result.tree.children(node.number) for node in failed), "a failed node is not expanded"
    assert "boom" in result.errors[0]
    assert result.outcome is bw.Outcome.COMPLETE


@every_search
@pytest.mark.parametrize("value", ["verifier", "p-true", "rating", "logprob"])
def test_without_any_value_the_majority_answers(name: str, value: ValueName) -> None:
    """The verifier raises, or the backend has no scores or no log-probabilities."""

    async def broken(path: bw.Path) -> float:
        raise ZeroDivisionError("boom")

    capabilities = replace(FULL, score=False, logprobs=False, top_k_logprobs=0)
    result = solve(replace(SEARCHES[name], value=value), backend=backend(capabilities=capabilities), verifier=broken)
    assert any("majority" in note for note in result.degraded)
    answers = [node.answer for node in result.tree.nodes if node.answer is not None]
    assert answers
    if not name.startswith("particle"):  # a node may hold several particles
        assert result.votes == {answer: answers.count(answer) for answer in answers}
    assert result.answer == max(result.votes, key=lambda answer: result.votes[answer])
    assert all(node.value is None for node in result.tree.nodes)


class NoRollouts(ScriptedBackend):
    """Samples steps, and refuses rollouts."""

    def extend(self, request: ExtendRequest) -> Extension:
        if not request.sampling.stop:
            raise bw.BackendError("no rollouts", retryable=False, hint="none")
        return super().extend(request)


@every_search
def test_failing_rollouts_leave_the_paths_that_end(name: str) -> None:
    if SEARCHES[name].step == "path":
        return  # a whole path needs no rollout
    result = solve(replace(SEARCHES[name], value="rollouts"), backend=backend(kind=NoRollouts))
    assert result.answer is not None
    assert {node.note for node in result.tree.nodes if node.state == "failed"} == {"no rollouts; none"}


@every_search
def test_a_nan_score_costs_one_node(name: str) -> None:
    plain = solve(SEARCHES[name])

    async def with_nan(path: bw.Path) -> float:
        return float("nan") if path.whole_text == plain.tree.nodes[1].text else await score(path)

    result = solve(SEARCHES[name], verifier=with_nan)
    assert "not a number" in next(node.note for node in result.tree.nodes if node.state == "failed")
    assert result.answer is not None


@every_search
@pytest.mark.parametrize("fails", ["first", "every second"])
def test_failed_samples_leave_the_others(name: str, fails: str) -> None:
    def fails_at(path: str, before: int) -> bool:
        return (path, before) == ("", 0) if fails == "first" else before % 4 == 1

    result = solve(SEARCHES[name], backend=backend(fails=fails_at))
    assert result.errors
    assert result.answer is not None
    assert result.outcome in (bw.Outcome.COMPLETE, bw.Outcome.NO_ANSWER)


@every_search
def test_the_run_ends_if_every_sample_fails(name: str) -> None:
    result = solve(SEARCHES[name], backend=backend(fails=lambda path, before: True))
    assert (result.answer, result.outcome, len(result.tree.nodes)) == (None, bw.Outcome.FAILED, 1)


class FailingJudge(ScriptedBackend):
    """Fails for judge prompts about one step, and for scores of the paths after another step."""

    async def root(self, messages: Messages, key: int) -> bw.Path:
        if len(messages.turns) > 2 and messages.turns[-2].content.startswith("n0\n"):
            raise bw.BackendError("no such prompt", retryable=False, hint="none")
        return await super().root(messages, key)

    async def score(self, path: bw.Path, continuations: Sequence[str]) -> object:  # type: ignore[override]
        assert path.root.messages is not None
        if path.root.messages.turns[-2].content.startswith(("n1\nn", "n1\nT")):
            raise bw.BackendError("no such score", retryable=False, hint="none")
        return await super().score(path, continuations)


@every_search
@pytest.mark.parametrize("value", ["p-true", "rating"])
def test_a_failed_judge_prompt_or_score_costs_its_node(name: str, value: ValueName) -> None:
    result = solve(replace(SEARCHES[name], value=value), backend=backend(kind=FailingJudge))
    nodes = result.tree.nodes
    refused = [node for node in nodes if node.parent == 0 and node.text.startswith("n0\n")]
    below = [node for node in nodes if node.parent is not None and nodes[node.parent].text == "n1\n" and node.tokens]
    unscored = [node for node in below if nodes[node.parent or 0].parent == 0] + [
        node for node in nodes if node.text.startswith(("n1\nn", "n1\nT"))
    ]
    assert refused
    assert unscored
    assert all("no such prompt" in node.note for node in refused)
    assert all("no such score" in node.note for node in unscored)
    assert all(node.state != "failed" or not result.tree.children(node.number) for node in result.tree.nodes)
    assert not result.degraded
