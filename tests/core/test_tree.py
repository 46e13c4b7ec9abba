"""The reasoning tree: traversal, validation, records and graph export."""

import io
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import networkx
import pytest

import branchwise as bw
from branchwise.core.tree import NodeState, Tree, TreeNode

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


def test_tree_is_traversed_in_both_directions() -> None:
    assert Tree().nodes == (TreeNode(0, None, "", 0),)
    assert [SEARCHED.children(number) for number in range(7)] == [(1, 2), (3, 4), (5, 6), (), (), (), ()]
    assert SEARCHED.path(6) == (0, 2, 6)
    assert SEARCHED.path(0) == (0,)
    assert SEARCHED.roots == (0,)


def test_best_path_is_ranked_by_value_then_visits_then_order() -> None:
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
def test_nodes_out_of_order_are_rejected(nodes: tuple[TreeNode, ...], problem: str) -> None:
    with pytest.raises(bw.ConfigError, match=problem):
        Tree(nodes)


def test_record_round_trip_restores_the_tree() -> None:
    record = json.loads(json.dumps(SEARCHED.record(), allow_nan=False))
    again = Tree.from_record(record)
    costs = [node.cost.model_copy(update={"forward_passes": 0.0}) for node in SEARCHED.nodes]  # not recorded
    assert again == Tree(tuple(replace(node, cost=cost) for node, cost in zip(SEARCHED.nodes, costs, strict=True)))
    assert again.children(2) == (5, 6)
    assert record[5] == {
        "number": 5,
        "parent": 2,
        "text": "",
        "tokens": 0,
        "visits": 0,
        "note": "the model failed",
        "state": "failed",
    }
    assert record[1]["cost"] == {"prompt": 4, "reused": 4, "sampled": 2}


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_non_finite_values_are_left_out_of_the_record(value: float) -> None:
    tree = Tree((replace(SEARCHED.nodes[0], value=value),))
    assert json.loads(json.dumps(tree.record(), allow_nan=False))[0].keys() == {
        "number",
        "parent",
        "text",
        "tokens",
        "visits",
        "state",
    }
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
def test_invalid_records_are_rejected(record: Sequence[object], problem: str) -> None:
    with pytest.raises(bw.ConfigError, match=problem):
        Tree.from_record(record)  # type: ignore[arg-type]


def test_graph_has_the_nodes_and_edges_of_the_tree() -> None:
    graph = SEARCHED.graph()
    assert networkx.is_arborescence(graph)
    assert list(graph.edges) == [(0, 1), (0, 2), (1, 3), (1, 4), (2, 5), (2, 6)]
    assert graph.nodes[3] == {
        "text": " The answer is 1.",
        "tokens": 5,
        "visits": 2,
        "state": "ended",
        "answer": "1",
        "value": 0.75,
    }
    assert graph.nodes[1] | {"cost_sampled": 2, "cost_reused": 4, "cost_forward_passes": 2.0} == graph.nodes[1]
    assert type(graph.nodes[3]["state"]) is str


def test_graphml_replaces_characters_that_xml_forbids() -> None:
    nodes = (SEARCHED.nodes[0], replace(SEARCHED.nodes[1], text=EVIL, answer=EVIL, note=EVIL))
    written = Tree(nodes).graphml()
    read = networkx.read_graphml(io.BytesIO(written.encode()), node_type=int)
    (text, answer, note) = (read.nodes[1][name] for name in ("text", "answer", "note"))
    assert text == answer == note == MILD
    assert read.nodes[1]["value"] == 0.5
    assert list(read.edges) == [(0, 1)]
    assert Tree(nodes).graph().nodes[1]["text"] == MILD


def test_long_paths_do_not_exceed_the_recursion_limit() -> None:
    nodes = (TreeNode(0, None, "", 0), *(TreeNode(n, n - 1, f" Step {n}.", 3) for n in range(1, 3000)))
    tree = Tree((*nodes, TreeNode(3000, 2999, "", 0, "1", state=NodeState.ENDED)))
    assert tree.best_path("1") == tuple(range(3001))
    assert all(parent + 1 == child for parent, child in pairwise(tree.path(2999)))
    assert Tree.from_record(tree.record()) == tree
    assert tree.graphml().count("<edge") == 3000
