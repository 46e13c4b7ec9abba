"""Values of nodes, worked out by hand."""

import math
from dataclasses import replace

import pytest

import branchwise as bw
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.core.question import as_messages
from branchwise.search.best_of_n import BestOfN
from branchwise.search.mcts import MCTS
from branchwise.strategies.self_evaluation import expected_value, judge_prompt
from tests.support.search_scripts import Script, backend, run, text_of

CHAIN: Script = {"": [("a", 0, 0.9)], "a": [("=1", 0, 0.4)]}  # the last number is the probability of each token
SCORES = {"True": math.log(0.6), "False": math.log(0.2), "sure": math.log(0.5), "likely": math.log(0.4)}
SCORES["impossible"] = math.log(0.1)


def scoring(script: Script) -> ScriptedBackend:
    """Return a script's backend that scores replies with SCORES."""
    scripted = backend(script)
    scripted._scores.update(SCORES)
    return scripted


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


def test_final_values_ended_paths_differently() -> None:
    strategy = BestOfN(1, step="line", value="logprob", final="p-true")
    result = run(strategy, CHAIN, backend=scoring(CHAIN)).result
    assert [node.value for node in result.tree.nodes[1:]] == pytest.approx([0.9, 0.75])


def test_rollouts_by_hand() -> None:
    """A node's value is the mean share of all answers so far over its two rollouts.

    a: rollouts 1, 2 of 1, 2: (1/2 + 1/2) / 2.    b: rollouts 1, 1 of 1, 2, 1, 1: 3/4.
    a =2: of 2 and 1, 2, 1, 1: 2/5.               b =1: of 2, 1 and 1, 2, 1, 1: 4/6.
    """
    script: Script = {
        "": [("a", 0), ("b", 0)],
        "a": [("=1", 0), ("=2", 0), ("=2", 0)],
        "b": [("=1", 0), ("=1", 0), ("=1", 0)],
    }
    search = run(BestOfN(2, step="line", value="rollouts", rollouts=2, choose="weighted"), script)
    assert search.recorder.expansions == [("", 2), ("a", 2), ("b", 2), ("a", 1), ("b", 1)]
    assert [node.value for node in search.result.tree.nodes[1:]] == pytest.approx([1 / 2, 3 / 4, 2 / 5, 4 / 6])
    # Rollouts vote with their share of all six answers: three times 4/6 for 1, once 2/6 for 2.
    assert search.result.votes == pytest.approx({"1": 4 * 4 / 6, "2": 2 / 5 + 2 / 6})
    assert all(node.cost.sampled == node.tokens for node in search.result.tree.nodes), (
        "the cost of values is not part of the nodes' cost"
    )


def test_rollouts_count_0_without_an_answer_and_not_at_all_if_failed() -> None:
    def reply(path: bw.Path, before: int) -> Reply:
        if not path.generated:
            return Reply("a\n")
        return [Reply(text_of("=1")), Reply("Who knows."), Reply("Oh no", fail_after=1), Reply(text_of("=1"))][before]

    strategy = BestOfN(1, step="line", value="rollouts", rollouts=3)
    result = bw.solve_sync("q", ScriptedBackend(reply), strategy=strategy)
    assert [node.value for node in result.tree.nodes[1:]] == [0.5, 1.0]  # one rollout states 1, one states no answer


def test_final_values_the_ends_of_rollouts() -> None:
    """The rollouts of a score 0.1 and 1, those of b 0.1 twice. No path of the tree is right, but a rollout is."""
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


def test_rollouts_without_a_final_value_are_left_out() -> None:
    def reply(path: bw.Path, before: int) -> Reply:
        if not path.generated:
            return Reply("a\n" if before == 0 else "b\n")
        if path.whole_text == "a\n":
            return [Reply(text_of("=1")), Reply("Who knows."), Reply(text_of("=2")), Reply(text_of("=1"))][before]
        return Reply(text_of("=2"))

    def check(path: bw.Path) -> float:
        if path.answer_text.endswith("2."):
            raise ValueError("a two can't be scored")
        return 0.8

    strategy = BestOfN(2, step="line", value="rollouts", rollouts=3, final="verifier")
    result = bw.solve_sync("q", ScriptedBackend(reply), strategy=strategy, verifier=check)
    a, b = result.tree.nodes[1:3]
    assert a.value == pytest.approx((0.8 + 0) / 2)
    assert b.value is None
    assert "a two can't be scored" in b.note
    assert result.answer == "1"


def test_mcts_answers_with_the_best_rollout() -> None:
    script: Script = {"": [("a", 0)], "a": [("=2", 1.0), ("=1", 0.0)], "a =1": [("=1", 0.0)]}
    result = run(MCTS(2, width=1, final="verifier", choose="best"), script).result
    assert [node.answer for node in result.tree.nodes] == [None, None, "1"]
    assert result.answer == "2"


def test_a_judge_prompt_has_the_conversation_and_the_path() -> None:
    root = bw.Path(None, 1, (1,), "", messages=as_messages("q").with_system("s"))
    path = bw.Path(root, 2, (2, 3), "One.\nTwo", (5, 8))
    prompt = judge_prompt(path, 4, ask="Well?", tag=7)
    turns = [(turn.role, turn.content) for turn in prompt.messages.turns]
    assert turns == [("system", "s"), ("user", "q"), ("assistant", "One.\nTwo"), ("user", "Well?")]
    assert (prompt.question, prompt.tag, prompt.messages.thinking) == (4, 7, False)
    assert prompt.task is not None, "its answers are asides"


def test_a_reply_of_several_tokens_has_their_joint_probability() -> None:
    assert expected_value([[math.log(0.5), math.log(0.5)], [math.log(0.75)]], [1.0, 0.0]) == pytest.approx(0.25)
    assert expected_value([[-math.inf], [-math.inf]], [1.0, 0.0]) is None
