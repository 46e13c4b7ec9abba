"""What every tree search keeps to, whatever happens around it: order, repetition, and what fails."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

import branchwise as bw
from branchwise.backends.base import ExtendRequest
from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.backends.stream import Extension
from branchwise.core.messages import Messages
from branchwise.search.search import Search
from branchwise.search.tree_of_thoughts import ToTBFS, ToTDFS
from branchwise.strategies.strategy import Decision
from tests.support.search_lab import Watched
from tests.support.searches import FULL, SEARCHES, ask, backend, every_search, judge, number, shape

# Order and repetition


@every_search
def test_the_same_seed_gives_the_same_tree(name: str) -> None:
    first, second = (ask(SEARCHES[name], seed=3) for _ in range(2))
    assert shape(first) == shape(second)
    assert first.answer is not None
    assert first.outcome is bw.Outcome.COMPLETE
    assert not first.degraded
    assert not first.errors


@every_search
@pytest.mark.parametrize("salt", range(3))
def test_the_order_in_which_replies_and_scores_arrive_changes_nothing(name: str, salt: int) -> None:
    def wait(text: str) -> float:
        return number(f"{salt} {text}") % 4 / 2000

    async def slow(path: bw.Path) -> float:
        await asyncio.sleep(wait(path.answer_text))
        return await judge(path)

    assert shape(ask(SEARCHES[name], backend=backend(wait), verifier=slow)) == shape(ask(SEARCHES[name]))


@every_search
def test_questions_in_one_run_get_the_trees_they_get_alone(name: str) -> None:
    together = asyncio.run(bw.solve_batch(["q", "another one"], backend(), strategy=SEARCHES[name], verifier=judge))
    alone = [bw.solve_sync(q, backend(), strategy=SEARCHES[name], verifier=judge) for q in ("q", "another one")]
    assert [shape(result) for result in together] == [shape(result) for result in alone]


class Nagging(Watched):
    """Tells everything twice, tells of what was never asked for, and tells all again when the search is over."""

    told: list[bw.Event]

    def tell(self, state: list[Search], event: bw.Event) -> None:
        self.told = [*getattr(self, "told", ()), event]
        root = state[0].root
        for again in (event, event, *self.foreign(root, event)):
            self.inner.tell(state, again)

    def foreign(self, root: bw.Path, event: bw.Event) -> Sequence[bw.Event]:
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

    def finish(self, state: list[Search]) -> Sequence[Decision]:
        before = self.inner.finish(state)
        for event in self.told:
            self.inner.tell(state, event)
        assert self.inner.ask(state) == []
        assert self.inner.finish(state) == before
        return before


@every_search
def test_events_told_twice_late_or_of_others_change_nothing(name: str) -> None:
    assert shape(ask(Nagging(SEARCHES[name]))) == shape(ask(SEARCHES[name]))


class Anytime(Watched):
    """Asks for the decision before and after everything it is told."""

    standing_answers: list[str | None]

    def tell(self, state: list[Search], event: bw.Event) -> None:
        self.inner.tell(state, event)
        assert self.inner.finish(state) == self.inner.finish(state)

    def ask(self, state: list[Search]) -> Sequence[bw.Action]:
        actions = self.inner.ask(state)
        (decision,) = self.inner.finish(state)
        answer = None if decision.answer is None else decision.answer.value
        self.standing_answers = [*getattr(self, "standing_answers", ()), answer]
        judged = {node.answer.value for node in state[0].nodes if node.answer and node.value is not None}
        assert answer in judged or not judged, "what was judged comes before what was not"
        return actions


@every_search
@pytest.mark.parametrize("shift", [0, -1])
def test_it_can_be_asked_for_its_answer_at_any_time(name: str, shift: int) -> None:
    async def shifted(path: bw.Path) -> float:
        return await judge(path) + shift

    strategy = SEARCHES[name]
    if isinstance(strategy, ToTBFS | ToTDFS):
        strategy = replace(strategy, threshold=shift)
    watched = Anytime(strategy)
    result = ask(watched, verifier=shifted)
    assert shape(result) == shape(ask(strategy, verifier=shifted))
    assert watched.standing_answers[-1] == result.answer
    first = next(place for place, answer in enumerate(watched.standing_answers) if answer is not None)
    assert None not in watched.standing_answers[first:]


# What fails


@every_search
def test_a_node_that_cannot_be_judged_is_all_that_is_lost(name: str) -> None:
    plain = ask(SEARCHES[name])
    lost = plain.tree.nodes[1]

    async def fragile(path: bw.Path) -> float:
        if path.whole_text == lost.text:
            raise ZeroDivisionError("what a pity")
        return await judge(path)

    result = ask(SEARCHES[name], verifier=fragile)
    assert result.answer is not None
    assert not result.degraded
    failed = [node for node in result.tree.nodes if node.state == "failed"]
    assert failed
    assert all(node.text == lost.text and "what a pity" in node.note for node in failed)
    assert all(not result.tree.children(node.number) for node in failed), "a failed node is not grown"
    assert "what a pity" in result.errors[0]
    assert result.outcome is bw.Outcome.COMPLETE


@every_search
@pytest.mark.parametrize("value", ["verifier", "p-true", "rating", "logprob"])
def test_where_nothing_can_be_judged_the_majority_answers(name: str, value: str) -> None:
    """The verifier raises, the backend can't score or shows no log-probabilities."""

    async def broken(path: bw.Path) -> float:
        raise ZeroDivisionError("what a pity")

    able = replace(FULL, score=False, logprobs=False, top_k_logprobs=0)
    result = ask(replace(SEARCHES[name], value=value), backend=backend(able=able), verifier=broken)
    assert any("majority" in note for note in result.degraded)
    answers = [node.answer for node in result.tree.nodes if node.answer is not None]
    assert answers
    if not name.startswith("particle"):  # there a node may be several particles
        assert result.votes == {answer: answers.count(answer) for answer in answers}
    assert result.answer == max(result.votes, key=lambda answer: result.votes[answer])
    assert all(node.value is None for node in result.tree.nodes)


class NoRollouts(ScriptedBackend):
    """Grows steps, and nothing to its end."""

    def extend(self, request: ExtendRequest) -> Extension:
        if not request.sampling.stop:
            raise bw.BackendError("no rollouts", retryable=False, hint="none")
        return super().extend(request)


@every_search
def test_where_rollouts_break_the_search_goes_on_to_paths_that_end(name: str) -> None:
    if SEARCHES[name].step == "path":
        return  # these are no rollouts
    result = ask(replace(SEARCHES[name], value="rollouts"), backend=backend(kind=NoRollouts))
    assert result.answer is not None
    assert {node.note for node in result.tree.nodes if node.state == "failed"} == {"no rollouts; none"}


@every_search
def test_one_score_that_is_no_number_costs_one_node(name: str) -> None:
    plain = ask(SEARCHES[name])

    async def odd(path: bw.Path) -> float:
        return float("nan") if path.whole_text == plain.tree.nodes[1].text else await judge(path)

    result = ask(SEARCHES[name], verifier=odd)
    assert "no number" in next(node.note for node in result.tree.nodes if node.state == "failed")
    assert result.answer is not None


@every_search
@pytest.mark.parametrize("fails", ["first", "every second"])
def test_samples_that_break_are_survived(name: str, fails: str) -> None:
    def broken(path: str, before: int) -> bool:
        return (path, before) == ("", 0) if fails == "first" else before % 4 == 1

    result = ask(SEARCHES[name], backend=backend(fails=broken))
    assert result.errors
    assert result.answer is not None
    assert result.outcome in (bw.Outcome.COMPLETE, bw.Outcome.NO_ANSWER)


@every_search
def test_where_every_sample_breaks_the_run_ends(name: str) -> None:
    result = ask(SEARCHES[name], backend=backend(fails=lambda path, before: True))
    assert (result.answer, result.outcome, len(result.tree.nodes)) == (None, bw.Outcome.FAILED, 1)


class NoJudges(ScriptedBackend):
    """Refuses prompts that ask about one step, and can't score what was said after another."""

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
def test_a_judges_prompt_or_score_that_fails_costs_its_node(name: str, value: str) -> None:
    result = ask(replace(SEARCHES[name], value=value), backend=backend(kind=NoJudges))
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
