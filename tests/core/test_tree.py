"""The tree of reasoning: what it says of itself, and how the paths of a result become one."""

import io
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import networkx
import pytest

import branchwise as bw
from branchwise.backends.scripted.backend import Script, ScriptedBackend
from branchwise.core.messages import as_messages
from branchwise.core.tree import NodeState, Tree, TreeNode
from branchwise.driver.sampled_tree import sampled_tree
from tests.support.throwaway import Log, Throwaway, once

FULL = bw.Capabilities(model="scripted", context=100_000)
TEXT = replace(FULL, token_in=False, token_out=False, logprobs=False, top_k_logprobs=0)
EVIL = "\x00 \x1b[31m \ud800 ]]> <script>alert(1)</script> &amp; ä\U0001f600"
MILD = "\ufffd \ufffd[31m \ufffd ]]> <script>alert(1)</script> &amp; ä\U0001f600"

SEARCHED = Tree(
    (
        TreeNode(0, None, "", 0, visits=5),
        TreeNode(1, 0, "A.", 2, value=0.5, visits=3, cost=bw.Usage(prompt=4, reused=4, sampled=2, forward_passes=2)),
        TreeNode(2, 0, "B.", 2, value=0.25, visits=2, state=NodeState.PRUNED),
        TreeNode(3, 1, " The answer is 1.", 5, "1", 0.75, 2, NodeState.ENDED),
        TreeNode(4, 1, " The answer is 2.", 5, "2", 1.0, 1, NodeState.ENDED),
        TreeNode(5, 2, "", 0, state=NodeState.FAILED, note="the model failed"),
        TreeNode(6, 2, " The answer is 1.", 5, "1", None, 9, NodeState.ENDED),
    )
)


# The tree itself


def test_a_tree_is_walked_both_ways() -> None:
    assert Tree().nodes == (TreeNode(0, None, "", 0),)
    assert [SEARCHED.children(number) for number in range(7)] == [(1, 2), (3, 4), (5, 6), (), (), (), ()]
    assert SEARCHED.path(6) == (0, 2, 6)
    assert SEARCHED.path(0) == (0,)
    assert SEARCHED.roots == (0,)


def test_the_best_path_has_the_highest_value_then_most_visits_then_came_first() -> None:
    assert SEARCHED.best_path() == (0, 1, 4)
    assert SEARCHED.best_path("1") == (0, 1, 3)  # 6 has more visits, and no value
    assert SEARCHED.best_path("3") == Tree().best_path() == ()
    equal = [replace(node, value=math.nan if node.number == 4 else None) for node in SEARCHED.nodes]
    assert Tree(tuple(equal)).best_path() == (0, 2, 6)
    assert Tree(tuple(replace(node, visits=1) for node in equal)).best_path() == (0, 1, 3)


@pytest.mark.parametrize(
    ("nodes", "problem"),
    [
        ((), "has no nodes"),
        ((TreeNode(0, 0, "", 0),), "begins with no prompt"),
        ((TreeNode(0, None, "", 0), TreeNode(2, 0, "", 0)), "node 2 at place 1"),
        ((TreeNode(0, None, "", 0), TreeNode(1, 1, "", 0)), "node 1 comes before its parent 1"),
        ((TreeNode(0, None, "", 0), TreeNode(1, -1, "", 0)), "node 1 comes before its parent -1"),
    ],
)
def test_nodes_out_of_order_are_refused(nodes: tuple[TreeNode, ...], problem: str) -> None:
    with pytest.raises(bw.ConfigError, match=problem):
        Tree(nodes)


def test_a_record_gives_the_tree_back() -> None:
    record = json.loads(json.dumps(SEARCHED.record(), allow_nan=False))
    again = Tree.from_record(record)
    costs = [node.cost.model_copy(update={"forward_passes": 0.0}) for node in SEARCHED.nodes]  # they are the run's
    assert again == Tree(tuple(replace(node, cost=cost) for node, cost in zip(SEARCHED.nodes, costs, strict=True)))
    assert again.children(2) == (5, 6)
    assert record[5] == {
        "number": 5, "parent": 2, "text": "", "tokens": 0, "visits": 0, "note": "the model failed", "state": "failed",
    }  # fmt: skip
    assert record[1]["cost"] == {"prompt": 4, "reused": 4, "sampled": 2}


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_json_cannot_hold_is_left_out(value: float) -> None:
    tree = Tree((replace(SEARCHED.nodes[0], value=value),))
    assert json.loads(json.dumps(tree.record(), allow_nan=False))[0].keys() == {
        "number", "parent", "text", "tokens", "visits", "state",
    }  # fmt: skip
    assert "value" not in tree.graph().nodes[0]


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({}, "valid tuple"),
        ([{"number": 0}], "0.parent: Field required"),
        ([{"number": 0, "parent": None, "text": 7, "tokens": 0}], "0.text: Input should be a valid string"),
        ([{"number": 0, "parent": None, "text": "", "tokens": 0, "state": "shut"}], "0.state"),
        ([{"number": 1, "parent": None, "text": "", "tokens": 0}], "holds node 1 at place 0"),
        ([], "has no nodes"),
    ],
)
def test_what_is_no_record_is_refused(record: Sequence[object], problem: str) -> None:
    with pytest.raises(bw.ConfigError, match=problem):
        Tree.from_record(record)  # type: ignore[arg-type]


def test_the_graph_is_the_tree() -> None:
    graph = SEARCHED.graph()
    assert networkx.is_arborescence(graph)
    assert list(graph.edges) == [(0, 1), (0, 2), (1, 3), (1, 4), (2, 5), (2, 6)]
    assert graph.nodes[3] == {
        "text": " The answer is 1.", "tokens": 5, "visits": 2, "state": "ended", "answer": "1", "value": 0.75,
    }  # fmt: skip
    assert graph.nodes[1] | {"cost_sampled": 2, "cost_reused": 4, "cost_forward_passes": 2.0} == graph.nodes[1]
    assert type(graph.nodes[3]["state"]) is str


def test_graphml_holds_whatever_a_model_wrote() -> None:
    nodes = (SEARCHED.nodes[0], replace(SEARCHED.nodes[1], text=EVIL, answer=EVIL, note=EVIL))
    written = Tree(nodes).graphml()
    read = networkx.read_graphml(io.BytesIO(written.encode()), node_type=int)
    (text, answer, note) = (read.nodes[1][name] for name in ("text", "answer", "note"))
    assert text == answer == note == MILD
    assert read.nodes[1]["value"] == 0.5
    assert list(read.edges) == [(0, 1)]
    assert Tree(nodes).graph().nodes[1]["text"] == MILD


# The tree of a result


async def solved(script: Script, strategy: bw.Strategy[Log], able: bw.Capabilities = FULL) -> bw.Result:
    result = await bw.solve("q", ScriptedBackend(script, capabilities=able), strategy=strategy)
    assert not result.errors
    holds(result)
    return result


def holds(result: bw.Result) -> None:
    """What is so of every tree of paths."""
    tree, paths = result.tree, result.paths
    ends = [node for node in tree.nodes if node.state is NodeState.ENDED]
    told = sorted(("".join(tree.nodes[each].text for each in tree.path(node.number)), node.answer) for node in ends)
    votes = [None if branch.answer is None else branch.answer.value for branch in paths]
    whole = [branch.path.answer_text for branch in paths]
    continued = {branch.parent for branch in paths if branch.parent is not None}
    if all(branch.path.shown is None or branch.number not in continued for branch in paths):
        assert told == sorted(zip(whole, votes, strict=True), key=lambda one: (one[0], one[1] or ""))
    assert len(ends) == len(paths)
    assert sum(node.tokens for node in tree.nodes) == sum(b.path.generated - b.prefix_tokens for b in paths)
    assert sum((node.cost for node in ends), bw.Usage()) == sum((branch.cost for branch in paths), bw.Usage())
    assert sum(tree.nodes[root].visits for root in tree.roots) == len(paths)
    for node in tree.nodes:
        below = sum(tree.nodes[child].visits for child in tree.children(node.number))
        assert node.visits == below + (node.state is NodeState.ENDED)


def shape(tree: Tree) -> list[tuple[int | None, str, int, int]]:
    return [(node.parent, node.text, node.tokens, node.visits) for node in tree.nodes]


def prefixes(*cuts: tuple[int, int]) -> Throwaway:
    """A path from the prompt, and one from each (earlier path, its first tokens), one after the other."""

    def plan(log: Log) -> Sequence[bw.Action]:
        ends = [event for event in log.told if isinstance(event, bw.Finished)]
        if len(ends) < log.asked or log.asked > len(cuts):
            return ()
        log.asked += 1
        if not ends:
            return [bw.Extend(log.roots[0])]
        branch, length = cuts[log.asked - 2]
        return [bw.Extend(ends[branch].path.cut(length))]

    return Throwaway(plan)


SCRIPT = {
    "": ["A. B. C. The answer is 1."],
    "A.": [" D. The answer is 2."],
    "A. B.": [" E. F. The answer is 3."],
    "A. B. E.": [" G."],
}


async def test_a_path_is_split_where_others_continue_it() -> None:
    result = await solved(SCRIPT, prefixes((0, 2), (0, 4)))
    assert shape(result.tree) == [
        (None, "", 0, 3),
        (0, "A.", 2, 3),
        (1, " B.", 2, 2),
        (2, " C. The answer is 1.", 7, 1),
        (1, " D. The answer is 2.", 7, 1),
        (2, " E. F. The answer is 3.", 9, 1),
    ]
    assert [node.answer for node in result.tree.nodes] == [None, None, None, "1", "2", "3"]
    assert Tree.from_record(result.record(tokens=False)["tree"]).record() == result.tree.record()  # type: ignore[arg-type]


async def test_a_prefix_of_a_prefix_hangs_where_its_text_is() -> None:
    """The third path continues the second within the part that the second has from the first."""
    result = await solved(SCRIPT, prefixes((0, 4), (1, 2), (1, 6)))
    assert shape(result.tree) == [
        (None, "", 0, 4),
        (0, "A.", 2, 4),
        (1, " B.", 2, 3),
        (2, " C. The answer is 1.", 7, 1),
        (2, " E.", 2, 2),
        (4, " F. The answer is 3.", 7, 1),
        (1, " D. The answer is 2.", 7, 1),
        (4, " G.", 2, 1),
    ]
    first, second, third, fourth = result.paths
    assert (third.parent, third.prefix_tokens) == (0, 2)
    through = [first, second, replace(third, parent=1), fourth]
    assert sampled_tree(through, first.path.root) == result.tree
    lost = sampled_tree([first, replace(second, parent=7)], first.path.root)  # nothing to hang it at
    assert shape(lost)[1:] == [
        (0, "A. B. C. The answer is 1.", 11, 1),
        (0, "A. B. E. F. The answer is 3.", 13, 1),
    ]


def in_steps(log: Log) -> Sequence[bw.Action]:
    """One path, in steps that end at line breaks."""
    sampling = bw.Sampling(stop=("\n",))
    if not log.told:
        return [bw.Extend(log.roots[0], sampling=sampling)]
    last = log.told[-1]
    more = isinstance(last, bw.Finished) and last.path.stop_reason is bw.StopReason.STOP
    return [bw.Extend(last.path, sampling=sampling, resume=True)] if more else []


@pytest.mark.parametrize("able", [FULL, TEXT])
async def test_a_path_in_steps_is_a_chain_with_its_stops(able: bw.Capabilities) -> None:
    """What a stop trimmed is there where the path went on, and is not where it ended."""
    whole = "A b.\nC d.\nE f. The answer is 1."
    result = await solved(lambda path, _: whole[len(path.whole_text) :], Throwaway(in_steps), able)
    prompt, *texts = [node.text for node in result.tree.nodes]
    assert (prompt, "".join(texts), [text.count("\n") for text in texts]) == ("", whole, [1, 1, 0])
    assert [node.parent for node in result.tree.nodes] == [None, 0, 1, 2]
    stopped = await solved(
        {"": ["A b.\nC d."]}, once(lambda log: bw.Extend(log.roots[0], sampling=bw.Sampling(stop=("\n",))))
    )
    assert [node.text for node in stopped.tree.nodes] == ["", "A b."]


async def test_paths_without_tokens_hang_under_the_prompt_whole() -> None:
    result = await solved({"": ["A. The answer is 1.", "A. The answer is 2."]}, bw.SelfConsistency(2), TEXT)
    assert shape(result.tree) == [(None, "", 0, 2), (0, "A. The answer is 1.", 0, 1), (0, "A. The answer is 2.", 0, 1)]


@pytest.mark.parametrize("able", [FULL, TEXT])
@pytest.mark.parametrize(
    "strategy",
    [bw.PathConsistency.plain(12), bw.PathConsistency(12), bw.PrefixConsistency(5), bw.AdaptivePathConsistency(12),
     bw.DeepConfOnline(8), bw.Greedy()],
    ids=lambda strategy: strategy.name,
)  # fmt: skip
async def test_every_strategys_paths_are_a_tree(strategy: bw.Strategy[Log], able: bw.Capabilities) -> None:
    def reply(path: bw.Path, earlier: int) -> str:
        steps = [" Left.", " Then right.", "\nAnd on."][: max(0, 3 - path.answer_text.count("."))]
        return "".join(steps)[1:] + f" The answer is {earlier % 3 // 2}."

    await solved(reply, strategy, able)


async def test_an_opening_is_the_prompts() -> None:
    messages = bw.Messages(turns=as_messages("q").turns, prefix="Well, ")
    result = await bw.solve(messages, ScriptedBackend({"": ["1. The answer is 1."]}), strategy=bw.Greedy())
    assert [node.text for node in result.tree.nodes] == ["", "1. The answer is 1."]


async def test_another_prompt_is_another_root() -> None:
    def plan(log: Log) -> Sequence[bw.Action]:
        if not log.told:
            return [bw.Root(as_messages("p"))] if not log.asked else []
        (first, *rest) = log.told
        if rest or log.asked or not isinstance(first, bw.Rooted):
            return []
        log.asked = 1
        return [bw.Extend(first.path), bw.Extend(log.roots[0])]

    result = await solved({"": ["The answer is 1."]}, Throwaway(plan))
    assert [(node.parent, node.answer) for node in result.tree.nodes] == [
        (None, None),
        (None, None),
        (1, "1"),
        (0, "1"),
    ]
    assert result.tree.roots == (0, 1)


async def test_a_strategys_own_tree_is_the_results() -> None:
    class Searching(Throwaway):
        def finish(self, state: Log) -> Sequence[bw.Decision]:
            return [replace(decision, tree=SEARCHED) for decision in super().finish(state)]

    strategy = Searching(once(lambda log: bw.Extend(log.roots[0])).plan)
    result = await bw.solve("q", ScriptedBackend({"": ["The answer is 1."]}), strategy=strategy)
    assert result.tree is SEARCHED
    assert result.record()["tree"] == SEARCHED.record()


async def test_nothing_finished_is_the_prompt_alone() -> None:
    result = await solved({}, Throwaway(lambda log: ()))
    assert result.tree == Tree()


def test_a_path_of_many_steps_recurses_nowhere() -> None:
    nodes = (TreeNode(0, None, "", 0), *(TreeNode(n, n - 1, f" Step {n}.", 3) for n in range(1, 3000)))
    tree = Tree((*nodes, TreeNode(3000, 2999, "", 0, "1", state=NodeState.ENDED)))
    assert tree.best_path("1") == tuple(range(3001))
    assert all(parent + 1 == child for parent, child in pairwise(tree.path(2999)))
    assert Tree.from_record(tree.record()) == tree
    assert tree.graphml().count("<edge") == 3000
