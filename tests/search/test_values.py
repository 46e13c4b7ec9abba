"""What a node is worth, worked out by hand; and fields that make no sense."""

import math
from dataclasses import replace

import pytest

import branchwise as bw
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.core.messages import as_messages
from branchwise.search.beam import Beam
from branchwise.search.best_first import BestFirst
from branchwise.search.best_of_n import BestOfN
from branchwise.search.dvts import DVTS
from branchwise.search.mcts import MCTS
from branchwise.search.particle import ParticleFilter
from branchwise.search.rebase import Rebase
from branchwise.search.tree_of_thoughts import ToTBFS, ToTDFS
from branchwise.strategies.judgment import expected, judgment
from branchwise.strategies.strategy import AnyStrategy
from tests.support.search_lab import Script, backend, run, said

CHAIN: Script = {"": [("a", 0, 0.9)], "a": [("=1", 0, 0.4)]}  # the last number is what each token's probability is
SCORES = {"True": math.log(0.6), "False": math.log(0.2), "sure": math.log(0.5), "likely": math.log(0.4)}
SCORES["impossible"] = math.log(0.1)


def scoring(script: Script) -> ScriptedBackend:
    """A script's backend that gives words these probabilities."""
    made = backend(script)
    made._scores.update(SCORES)
    return made


@pytest.mark.parametrize(
    ("value", "values"),
    [
        ("logprob", [0.9, (0.9**2 * 0.4**5) ** (1 / 7)]),  # a and its newline; The answer is 1.
        ("p-true", [0.75, 0.75]),  # .6 / (.6 + .2)
        ("rating", [0.7, 0.7]),  # .5 * 1 + .4 * .5 + .1 * 0
    ],
)
def test_a_nodes_value_by_hand(value: str, values: list[float]) -> None:
    strategy = BestOfN(1, step="line", value=value)  # type: ignore[arg-type]
    result = run(strategy, CHAIN, backend=scoring(CHAIN)).result
    assert [node.value for node in result.tree.nodes[1:]] == pytest.approx(values)
    assert result.usage.scored == {"logprob": 0, "p-true": 4, "rating": 6}[value]


def test_ended_paths_may_have_a_value_of_their_own() -> None:
    strategy = BestOfN(1, step="line", value="logprob", final="p-true")
    result = run(strategy, CHAIN, backend=scoring(CHAIN)).result
    assert [node.value for node in result.tree.nodes[1:]] == pytest.approx([0.9, 0.75])


def test_rollouts_by_hand() -> None:
    """A node's worth is how large a share of all answers so far its own two rollouts' are, on average.

    a: rollouts 1, 2 of 1, 2: (1/2 + 1/2) / 2.    b: rollouts 1, 1 of 1, 2, 1, 1: 3/4.
    a =2: of 2 and 1, 2, 1, 1: 2/5.               b =1: of 2, 1 and 1, 2, 1, 1: 4/6.
    """
    script: Script = {
        "": [("a", 0), ("b", 0)],
        "a": [("=1", 0), ("=2", 0), ("=2", 0)],
        "b": [("=1", 0), ("=1", 0), ("=1", 0)],
    }
    searched = run(BestOfN(2, step="line", value="rollouts", rollouts=2, choose="weighted"), script)
    assert searched.watched.asked == [("", 2), ("a", 2), ("b", 2), ("a", 1), ("b", 1)]
    assert [node.value for node in searched.result.tree.nodes[1:]] == pytest.approx([1 / 2, 3 / 4, 2 / 5, 4 / 6])
    # Rollouts have a say with their share of all six: three times 4/6 for 1, once 2/6 for 2.
    assert searched.result.votes == pytest.approx({"1": 4 * 4 / 6, "2": 2 / 5 + 2 / 6})
    assert all(node.cost.sampled == node.tokens for node in searched.result.tree.nodes), (
        "what values cost is not theirs"
    )


def test_a_rollout_without_an_answer_counts_nothing_and_one_that_broke_is_left_out() -> None:
    def reply(path: bw.Path, before: int) -> Reply:
        if not path.generated:
            return Reply("a\n")
        return [Reply(said("=1")), Reply("Who knows."), Reply("Oh no", fail_after=1), Reply(said("=1"))][before]

    strategy = BestOfN(1, step="line", value="rollouts", rollouts=3)
    result = bw.solve_sync("q", ScriptedBackend(reply), strategy=strategy)
    assert [node.value for node in result.tree.nodes[1:]] == [0.5, 1.0]  # of the answers 1 alone: 1 and 0


def test_rollouts_ends_are_worth_what_final_says() -> None:
    """a: its rollouts' ends are checked to 0.1 and 1, b's to 0.1 twice. No path of the tree is right, a rollout is."""
    script: Script = {
        "": [("a", 0), ("b", 0)],
        "a": [("=1", 0.1), ("=2", 1.0), ("=1", 0.1)],
        "b": [("=1", 0.1)],
    }
    strategy = BestOfN(2, step="line", value="rollouts", rollouts=2, final="verifier", choose="best")
    result = run(strategy, script).result
    assert [node.value for node in result.tree.nodes[1:]] == pytest.approx([0.55, 0.1, 0.1, 0.1])
    assert result.answer == "2"
    assert run(replace(strategy, choose="weighted"), script).result.votes == pytest.approx({"1": 5 * 0.1, "2": 1.0})


def test_a_rollout_that_cant_be_judged_is_left_out_and_one_without_an_answer_is_worth_nothing() -> None:
    def reply(path: bw.Path, before: int) -> Reply:
        if not path.generated:
            return Reply("a\n" if before == 0 else "b\n")
        if path.whole_text == "a\n":
            return [Reply(said("=1")), Reply("Who knows."), Reply(said("=2")), Reply(said("=1"))][before]
        return Reply(said("=2"))

    def check(path: bw.Path) -> float:
        if path.answer_text.endswith("2."):
            raise ValueError("a two can't be judged")
        return 0.8

    strategy = BestOfN(2, step="line", value="rollouts", rollouts=3, final="verifier")
    result = bw.solve_sync("q", ScriptedBackend(reply), strategy=strategy, verifier=check)
    a, b = result.tree.nodes[1:3]
    assert a.value == pytest.approx((0.8 + 0) / 2)
    assert b.value is None
    assert "a two can't be judged" in b.note
    assert result.answer == "1"


def test_mcts_answers_with_a_rollout_that_the_checker_calls_right() -> None:
    script: Script = {"": [("a", 0)], "a": [("=2", 1.0), ("=1", 0.0)], "a =1": [("=1", 0.0)]}
    result = run(MCTS(2, width=1, final="verifier", choose="best"), script).result
    assert [node.answer for node in result.tree.nodes] == [None, None, "1"]
    assert result.answer == "2"


def test_a_judge_sees_the_conversation_and_the_path() -> None:
    root = bw.Path(None, 1, (1,), "", messages=as_messages("q").with_system("s"))
    path = bw.Path(root, 2, (2, 3), "One.\nTwo", (5, 8))
    asked = judgment(path, 4, ask="Well?", tag=7)
    turns = [(turn.role, turn.content) for turn in asked.messages.turns]
    assert turns == [("system", "s"), ("user", "q"), ("assistant", "One.\nTwo"), ("user", "Well?")]
    assert (asked.question, asked.tag, asked.messages.thinking) == (4, 7, False)
    assert asked.task is not None, "an aside: its answer is none to the question"


def test_a_verdict_of_several_tokens_has_the_product_of_their_probabilities() -> None:
    assert expected([[math.log(0.5), math.log(0.5)], [math.log(0.75)]], [1.0, 0.0]) == pytest.approx(0.25)
    assert expected([[-math.inf], [-math.inf]], [1.0, 0.0]) is None


EVERY: list[AnyStrategy] = [
    BestOfN(), Beam(), DVTS(), Rebase(), ParticleFilter(), MCTS(), ToTBFS(), ToTDFS(), BestFirst(),
]  # fmt: skip


@pytest.mark.parametrize("strategy", EVERY, ids=lambda strategy: strategy.name)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("paths", 0), ("value", "luck"), ("final", "luck"), ("over", "max"), ("choose", "worst"), ("step", "word"),
        ("step", 0), ("rollouts", 0), ("max_steps", 0), ("nodes", 0),
    ],
)  # fmt: skip
def test_fields_every_search_has_are_checked_at_construction(strategy: AnyStrategy, field: str, value: object) -> None:
    with pytest.raises(bw.ConfigError, match=field):
        replace(strategy, **{field: value})  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("strategy", "field", "value"),
    [
        (Beam(8), "width", 0), (Beam(8), "width", 3), (DVTS(8), "width", 5), (Rebase(), "temperature", 0.0),
        (ParticleFilter(), "temperature", -1.0), (MCTS(), "width", 0), (MCTS(), "rule", "ucb"),
        (MCTS(), "exploration", -1.0), (MCTS(), "parallel", 0), (ToTBFS(4), "keep", 5), (ToTBFS(4), "keep", 0),
        (ToTDFS(), "width", 0), (ToTDFS(), "answers", 0), (BestFirst(), "width", 0), (BestFirst(), "cost", "money"),
        (BestFirst(), "parallel", 0), (BestFirst(), "answers", 0),
    ],
)  # fmt: skip
def test_a_searchs_own_fields_are_checked_at_construction(strategy: AnyStrategy, field: str, value: object) -> None:
    with pytest.raises(bw.ConfigError, match=field):
        replace(strategy, **{field: value})  # type: ignore[type-var]
