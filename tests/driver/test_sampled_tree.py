"""Trees of sampled paths: shared prefixes appear once, and every path ends in a node."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

import branchwise as bw
from branchwise.backends.scripted.backend import Script, ScriptedBackend
from branchwise.core.question import as_messages
from branchwise.core.tree import NodeState, Tree, TreeNode
from branchwise.driver.results import sampled_tree
from branchwise.strategies.strategy import AnyStrategy
from tests.support.throwaway import Log, Throwaway, once

FULL = bw.Capabilities(model="scripted", context=100_000)
TEXT = replace(FULL, token_in=False, token_out=False, logprobs=False, top_k_logprobs=0)


async def solved(script: Script, strategy: AnyStrategy, capabilities: bw.Capabilities = FULL) -> bw.Result:
    result = await bw.solve("q", ScriptedBackend(script, capabilities=capabilities), strategy=strategy)
    assert not result.errors
    check_invariants(result)
    return result


def check_invariants(result: bw.Result) -> None:
    """Check what holds for every tree of sampled paths: texts, answers, tokens, costs and visits add up."""
    tree, paths = result.tree, result.paths
    ends = [node for node in tree.nodes if node.state is NodeState.ENDED]
    leaves = sorted(("".join(tree.nodes[each].text for each in tree.path(node.number)), node.answer) for node in ends)
    votes = [None if branch.answer is None else branch.answer.value for branch in paths]
    whole = [branch.path.answer_text for branch in paths]
    continued = {branch.parent for branch in paths if branch.parent is not None}
    if all(branch.path.shown is None or branch.number not in continued for branch in paths):
        assert leaves == sorted(zip(whole, votes, strict=True), key=lambda one: (one[0], one[1] or ""))
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
    """Return a strategy that samples a path from the prompt, then one from each (earlier path, prefix length)."""

    def plan(log: Log) -> Sequence[bw.Action]:
        ends = [event for event in log.events if isinstance(event, bw.Finished)]
        if len(ends) < log.requested or log.requested > len(cuts):
            return ()
        log.requested += 1
        if not ends:
            return [bw.Extend(log.roots[0])]
        branch, length = cuts[log.requested - 2]
        return [bw.Extend(ends[branch].path.cut(length))]

    return Throwaway(plan)


SCRIPT = {
    "": ["A. B. C. The answer is 1."],
    "A.": [" D. The answer is 2."],
    "A. B.": [" E. F. The answer is 3."],
    "A. B. E.": [" G."],
}


async def test_path_is_split_where_another_path_forks() -> None:
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


async def test_fork_inside_an_inherited_prefix_attaches_at_its_text() -> None:
    """The third path forks from the second, inside the prefix that the second shares with the first."""
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
    lost = sampled_tree([first, replace(second, parent=7)], first.path.root)  # its parent is missing
    assert shape(lost)[1:] == [
        (0, "A. B. C. The answer is 1.", 11, 1),
        (0, "A. B. E. F. The answer is 3.", 13, 1),
    ]


def in_steps(log: Log) -> Sequence[bw.Action]:
    """Sample one path in steps that end at line breaks."""
    sampling = bw.Sampling(stop=("\n",))
    if not log.events:
        return [bw.Extend(log.roots[0], sampling=sampling)]
    last = log.events[-1]
    if isinstance(last, bw.Finished) and last.path.stop_reason is bw.StopReason.STOP:
        return [bw.Extend(last.path, sampling=sampling, resume=True)]
    return []


@pytest.mark.parametrize("capabilities", [FULL, TEXT])
async def test_stepwise_path_is_a_chain_with_its_stop_strings(capabilities: bw.Capabilities) -> None:
    """A stop string is part of the tree where the path continued, and trimmed where it ended."""
    whole = "A b.\nC d.\nE f. The answer is 1."
    result = await solved(lambda path, _: whole[len(path.whole_text) :], Throwaway(in_steps), capabilities)
    prompt, *texts = [node.text for node in result.tree.nodes]
    assert (prompt, "".join(texts), [text.count("\n") for text in texts]) == ("", whole, [1, 1, 0])
    assert [node.parent for node in result.tree.nodes] == [None, 0, 1, 2]
    stopped = await solved(
        {"": ["A b.\nC d."]}, once(lambda log: bw.Extend(log.roots[0], sampling=bw.Sampling(stop=("\n",))))
    )
    assert [node.text for node in stopped.tree.nodes] == ["", "A b."]


async def test_paths_without_token_ids_are_single_nodes() -> None:
    result = await solved({"": ["A. The answer is 1.", "A. The answer is 2."]}, bw.SelfConsistency(2), TEXT)
    assert shape(result.tree) == [(None, "", 0, 2), (0, "A. The answer is 1.", 5, 1), (0, "A. The answer is 2.", 5, 1)]


@pytest.mark.parametrize("capabilities", [FULL, TEXT])
@pytest.mark.parametrize(
    "strategy",
    [
        bw.PathConsistency.plain(12),
        bw.PathConsistency(12),
        bw.PrefixConsistency(5),
        bw.AdaptivePathConsistency(12),
        bw.DeepConfOnline(8),
        bw.Greedy(),
    ],
    ids=lambda strategy: strategy.name,
)
async def test_paths_of_every_strategy_form_a_tree(strategy: AnyStrategy, capabilities: bw.Capabilities) -> None:
    def reply(path: bw.Path, earlier: int) -> str:
        steps = [" Left.", " Then right.", "\nAnd on."][: max(0, 3 - path.answer_text.count("."))]
        return "".join(steps)[1:] + f" The answer is {earlier % 3 // 2}."

    await solved(reply, strategy, capabilities)


async def test_assistant_prefix_belongs_to_the_prompt() -> None:
    messages = bw.Messages(turns=as_messages("q").turns, prefix="Well, ")
    result = await bw.solve(messages, ScriptedBackend({"": ["1. The answer is 1."]}), strategy=bw.Greedy())
    assert [node.text for node in result.tree.nodes] == ["", "1. The answer is 1."]


async def test_additional_prompt_is_an_additional_root() -> None:
    def plan(log: Log) -> Sequence[bw.Action]:
        if not log.events:
            return [bw.Root(as_messages("p"))] if not log.requested else []
        (first, *rest) = log.events
        if rest or log.requested or not isinstance(first, bw.Rooted):
            return []
        log.requested = 1
        return [bw.Extend(first.path), bw.Extend(log.roots[0])]

    result = await solved({"": ["The answer is 1."]}, Throwaway(plan))
    assert [(node.parent, node.answer) for node in result.tree.nodes] == [
        (None, None),
        (None, None),
        (1, "1"),
        (0, "1"),
    ]
    assert result.tree.roots == (0, 1)


async def test_tree_of_the_strategy_becomes_the_tree_of_the_result() -> None:
    tree = Tree((TreeNode(0, None, "", 0, visits=5), TreeNode(1, 0, "A.", 2, "1", 0.5, 3, NodeState.ENDED)))

    class Searching(Throwaway):
        def finish(self, state: Log) -> Sequence[bw.Decision]:
            return [replace(decision, tree=tree) for decision in super().finish(state)]

    strategy = Searching(once(lambda log: bw.Extend(log.roots[0])).plan)
    result = await bw.solve("q", ScriptedBackend({"": ["The answer is 1."]}), strategy=strategy)
    assert result.tree is tree
    assert result.record()["tree"] == tree.record()


async def test_run_without_finished_branches_has_only_the_prompt() -> None:
    result = await solved({}, Throwaway(lambda log: ()))
    assert result.tree == Tree()
