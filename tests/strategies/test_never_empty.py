"""Every strategy ends with an answer if a branch states one, and searches go on until one does."""

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import branchwise as bw
from branchwise.backends import Reply, ScriptedBackend
from branchwise.registry import STRATEGIES, make_strategy
from branchwise.search.tree import TreeSearch
from branchwise.strategies.strategy import AnyStrategy

NAMES = sorted(STRATEGIES)
SCORES = {"True": -0.3, "False": -1.5, "sure": -0.9, "likely": -1.0, "impossible": -1.2}
STATED = "The answer is 42."


def strategy(name: str, paths: int) -> AnyStrategy:
    return make_strategy(name, paths, bw.Sampling(max_tokens=200))


SEARCHES = [name for name in NAMES if isinstance(strategy(name, 4), TreeSearch)]
RESTARTING = [name for name in SEARCHES if "best-of-n" not in name]


def rarely_answering(salt: int, share: float) -> ScriptedBackend:
    """Return a model whose paths have up to five lines, and state an answer in a small share of cases."""

    def reply(path: bw.Path, before: int) -> Reply:
        lines = path.whole_text.count("\n")
        chance = zlib.crc32(f"{salt} {path.whole_text} {before}".encode()) / (1 << 32)
        ended = "I am not sure." if chance > 0.7 or lines >= 4 else f"Step {lines}.{before} of {chance:.3f}\nAnd so on."
        stated = f"{STATED}\nAnd so on." if salt % 2 and lines < 4 else STATED
        return Reply(stated if chance < share else ended, logprob=-chance)

    return ScriptedBackend(reply, scores=SCORES)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(salt=st.integers(0, 1 << 30), share=st.sampled_from([0.01, 0.03, 0.1]), paths=st.integers(1, 12))
def test_an_answer_that_a_branch_states_is_never_lost(name: str, salt: int, share: float, paths: int) -> None:
    result = bw.solve_sync("q", rarely_answering(salt, share), strategy=strategy(name, paths))
    stated = any(branch.answer is not None for branch in result.paths)
    assert (result.answer is not None) == stated
    assert result.outcome is (bw.Outcome.COMPLETE if stated else bw.Outcome.NO_ANSWER)


@pytest.mark.parametrize("value", ["verifier", "rollouts,final=verifier"])
@pytest.mark.parametrize("name", SEARCHES)
@settings(max_examples=15, deadline=None)
@given(salt=st.integers(0, 1 << 30), paths=st.integers(1, 8))
def test_an_answer_that_can_not_be_valued_is_never_lost(name: str, value: str, salt: int, paths: int) -> None:
    async def verifier(path: bw.Path) -> float:
        chance = zlib.crc32(f"{salt} {path.answer_text}".encode()) % 5
        if chance < 3:
            raise ValueError("the path can't be valued")
        return chance / 5

    searched = strategy(f"{name}:value={value}", paths)
    result = bw.solve_sync("q", rarely_answering(salt, 0.05), strategy=searched, verifier=verifier)
    assert (result.answer is not None) == any(branch.answer is not None for branch in result.paths)


@pytest.mark.parametrize("name", RESTARTING)
@pytest.mark.parametrize("paths", [2, 4, 8])
def test_a_search_whose_paths_all_end_without_an_answer_starts_again(name: str, paths: int) -> None:
    first = 4 if name in ("best-first", "tot-dfs") else paths
    backend = ScriptedBackend(lambda path, before: STATED if before >= first else "No idea.", scores=SCORES)
    result = bw.solve_sync("q", backend, strategy=strategy(name, paths))
    assert (result.answer, result.outcome) == ("42", bw.Outcome.COMPLETE)


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("paths", [1, 2, 5])
@pytest.mark.parametrize("value", ["logprob", "p-true"])
def test_a_search_completes_its_best_path_at_the_end_of_its_expansions(name: str, paths: int, value: str) -> None:
    lines = "".join(f"Step {number}.\n" for number in range(12)) + STATED
    backend = ScriptedBackend(lambda path, before: lines[len(path.whole_text) :], scores=SCORES)
    result = bw.solve_sync("q", backend, strategy=strategy(f"{name}:value={value}", paths))
    assert (result.answer, result.outcome) == ("42", bw.Outcome.COMPLETE)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_without_any_answer_ends_after_its_paths(name: str) -> None:
    backend = ScriptedBackend(lambda path, before: "No idea.", scores=SCORES)
    few = bw.solve_sync("q", backend, strategy=strategy(name, 4))
    assert few.outcome is bw.Outcome.NO_ANSWER
    assert len(few.tree.nodes) - 1 <= 4 * 4 + 4


@pytest.mark.parametrize("name", RESTARTING)
def test_greedy_paths_are_not_sampled_again(name: str) -> None:
    backend = ScriptedBackend(lambda path, before: "No idea.", scores=SCORES)
    greedy = make_strategy(name, 4, bw.Sampling(temperature=0))
    assert len(bw.solve_sync("q", backend, strategy=greedy).tree.nodes) - 1 <= 4


@pytest.mark.parametrize("name", RESTARTING)
def test_nodes_and_budget_end_a_search_without_an_answer(name: str) -> None:
    backend = ScriptedBackend(lambda path, before: "No idea.", scores=SCORES)
    limited = bw.solve_sync("q", backend, strategy=strategy(f"{name}:nodes=5", 4))
    assert (limited.outcome, len(limited.tree.nodes) - 1) == (bw.Outcome.NO_ANSWER, 5)
    short = bw.solve_sync("q", backend, strategy=strategy(name, 4), budget=bw.Budget(paths=5))
    assert (short.outcome, len(short.paths)) == (bw.Outcome.PATHS_SPENT, 5)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_backend_that_fails_is_asked_for_one_more_path_only(name: str) -> None:
    def reply(path: bw.Path, before: int) -> str:
        raise RuntimeError("broken")

    result = bw.solve_sync("q", ScriptedBackend(reply), strategy=strategy(name, 4))
    assert result.outcome is bw.Outcome.FAILED


def test_best_first_passes_over_ended_paths_without_an_answer() -> None:
    def reply(path: bw.Path, before: int) -> str:
        return ("No idea.", "Step 1.\nThe answer is 42.")[before % 2] if path.parent is None else STATED

    result = bw.solve_sync("q", ScriptedBackend(reply), strategy=bw.BestFirst(width=2, value="logprob"))
    assert result.answer == "42"
    assert [node.answer for node in result.tree.nodes if node.state == "ended"].count("42") >= 1
