"""The contract of every strategy, run on the scripted backend."""

import asyncio
from collections.abc import Sequence
from math import exp
from typing import Any, Unpack

import pytest

import branchwise as bw
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.driver import SolveOptions
from branchwise.registry import STRATEGIES, make_strategy
from branchwise.search.tree import TreeSearch
from branchwise.strategies.strategy import AnyStrategy

NAMES = sorted(STRATEGIES)
SEARCHES = {name for name in NAMES if isinstance(STRATEGIES[name](12, bw.Sampling()), TreeSearch)}
STEPWISE = SEARCHES - {"best-of-n", "weighted-best-of-n"}
WEIGHTED = SEARCHES - {"best-of-n"} | {
    "adaptive-path-consistency",
    "cisc",
    "deepconf",
    "deepconf-online",
    "prefix-consistency",
    "universal-self-consistency",
    "weighted-vote",
}
"""Strategies whose votes are weights instead of counts; their own tests check the sums."""
REPLIES = [f"Step {i}. Next {i}. The answer is {answer}." for i, answer in enumerate("1213112")]


def make(name: str, paths: int = 12) -> AnyStrategy:
    return make_strategy(name, paths, bw.Sampling())


def solve(question: str, backend: ScriptedBackend, **options: Unpack[SolveOptions]) -> bw.Result:
    """Solve with the answers of math problems, also where a strategy compares whole replies by default."""
    options["task"] = "math"
    return bw.solve_sync(question, backend, **options)


def backend(replies: Sequence[str | Reply] = REPLIES) -> ScriptedBackend:
    def reply(path: bw.Path, before: int) -> str | Reply:
        return replies[before % len(replies)] if path.generated == 0 else f" Later {before}. The answer is 1."

    return ScriptedBackend(reply)


@pytest.mark.parametrize("name", NAMES)
def test_a_strategy_is_a_frozen_value(name: str) -> None:
    assert make(name) == make(name)
    assert hash(make(name)) == hash(make(name))
    strategy: Any = make(name)
    with pytest.raises(AttributeError):
        strategy.sampling = bw.Sampling()


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_result(name: str) -> None:
    first, second = (solve("q", backend(), strategy=make(name), seed=5) for _ in range(2))
    assert first.record()["votes"] == second.record()["votes"]
    assert first.record()["paths"] == second.record()["paths"]


@pytest.mark.parametrize("name", NAMES)
def test_every_path_with_an_answer_votes_and_the_limit_holds(name: str) -> None:
    result = solve("q", backend(), strategy=make(name))
    if name not in WEIGHTED:
        assert sum(result.votes.values()) == sum(branch.answer is not None for branch in result.paths)
    most = 16 if name == "adaptive-path-consistency" else 12  # its tie-break regenerates two paths of each answer
    assert 1 <= len(result.paths) <= most or name in STEPWISE  # there a path is a step
    assert result.answer == max(result.votes, key=lambda answer: result.votes[answer]) or name == "best-of-n"


@pytest.mark.parametrize("name", ["adaptive-path-consistency", "greedy", "path-consistency", "path-consistency-plain"])
def test_one_path_can_be_streamed(name: str) -> None:
    assert make(name, 1).alone
    assert make(name, 2).alone == (name == "greedy")
    assert len(solve("q", backend(), strategy=make(name, 1)).paths) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_result_without_answers_has_no_answer(name: str) -> None:
    result = solve("q", backend(["Who knows."]), strategy=make(name))
    if name.startswith("path-consistency"):
        return  # its later branches continue a script that answers
    assert (result.answer, result.confidence) == (None, None)


@pytest.mark.parametrize("name", NAMES)
def test_failed_branches_leave_the_others(name: str) -> None:
    replies: list[str | Reply] = [Reply("Oh no", fail_after=1), *REPLIES]
    result = solve("q", backend(replies), strategy=make(name))
    assert result.answer == "1" or name == "greedy"
    assert result.errors


@pytest.mark.parametrize("name", NAMES)
def test_the_run_ends_if_every_branch_fails(name: str) -> None:
    result = solve("q", backend([Reply("Oh no", fail_after=1)]), strategy=make(name))
    assert result.outcome is bw.Outcome.FAILED


@pytest.mark.parametrize("name", NAMES)
def test_the_decision_can_be_computed_at_any_time(name: str) -> None:
    """With an observer, the driver computes the decision after every branch."""
    plain = solve("q", backend(), strategy=make(name))
    observed = solve("q", backend(), strategy=make(name), observer=lambda event: None)
    assert plain.record()["paths"] == observed.record()["paths"]
    assert plain.votes == observed.votes


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_gives_the_results_of_separate_runs(name: str) -> None:
    batch = asyncio.run(bw.solve_batch(["q", "r"], backend(), task="math", strategy=make(name)))
    separate = [solve(question, backend(), strategy=make(name)) for question in ("q", "r")]
    assert [r.votes for r in batch] == [r.votes for r in separate]
    assert [[b.path.key for b in r.paths] for r in batch] == [[b.path.key for b in r.paths] for r in separate]


@pytest.mark.parametrize("name", NAMES)
def test_repeated_failures_of_a_branch_are_harmless(name: str) -> None:
    async def make_root() -> bw.Path:
        return await backend().root(bw.Messages(turns=(bw.Message(role="user", content="q"),)), 1)

    chosen, root = make(name), asyncio.run(make_root())
    state = chosen.start([root])
    for action in chosen.ask(state):
        assert isinstance(action, bw.Extend)
        for branch in range(action.count):
            chosen.tell(state, bw.Failed(0, action, branch, None))
            chosen.tell(state, bw.Failed(0, action, branch, None))
    assert chosen.finish(state)[0].answer is None


def test_best_of_n_takes_the_answer_of_the_most_probable_path() -> None:
    replies = [Reply("The answer is 1.", -0.5), Reply("The answer is 1.", -0.6), Reply("The answer is 2.", -0.1)]
    result = solve("q", backend(replies), strategy=bw.BestOfN(3))
    assert result.answer == "2"
    assert result.votes == {"1": 2, "2": 1}
    assert result.tallies["best"].votes == pytest.approx({"2": exp(-0.1), "1": exp(-0.5)})


def test_greedy_samples_one_path_without_a_confidence() -> None:
    result = solve("q", backend(), strategy=bw.Greedy())
    assert len(result.paths) == 1
    assert result.confidence is None


def test_more_paths_begin_with_the_same_samples() -> None:
    few, many = (solve("q", backend(), strategy=bw.SelfConsistency(n)) for n in (3, 9))
    assert [b.path.key for b in many.paths[:3]] == [b.path.key for b in few.paths]
