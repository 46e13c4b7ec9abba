"""With a tentative format, the first reply decides whether the others are sampled."""

import pytest

import branchwise as bw
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.chat.task import chat_task
from branchwise.driver.first_reply import NO_VOTE
from branchwise.registry import STRATEGIES, make_strategy

GUESSED = chat_task(None, None, "math")
POEMS = ["Roses are red.", "Violets.", "The sky."]
NUMBERS = ["It is so. The answer is 4.", "The answer is 5.", "So the answer is 4."]


def solve(name: str, replies: list[str | Reply], task: bw.Task = GUESSED) -> tuple[bw.Result, int]:
    """Return the result, and the number of paths that were started from the prompt."""
    started = 0

    def script(path: bw.Path, number: int) -> str | Reply:
        nonlocal started
        started += path.generated == 0
        return replies[number % len(replies)]

    backend = ScriptedBackend(script, scores={"True": -0.1, "False": -2.0})
    return bw.solve_sync("Write a poem.", backend, strategy=make_strategy(name, 8, bw.Sampling()), task=task), started


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - {"greedy"}))
def test_replies_without_an_answer_cost_one_path(name: str) -> None:
    result, started = solve(name, list(POEMS))
    assert started == len(result.paths) == 1
    assert result.outcome is bw.Outcome.NO_ANSWER
    assert NO_VOTE in result.degraded or name in ("adaptive-path-consistency", "blend-asc", "adaptive-consistency")


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_replies_with_an_answer_vote_as_without_the_check(name: str) -> None:
    checked, _ = solve(name, list(NUMBERS))
    plain, _ = solve(name, list(NUMBERS), chat_task(None, "math", "math"))
    assert checked.votes == plain.votes
    assert [branch.path.key for branch in checked.paths] == [branch.path.key for branch in plain.paths]
    assert NO_VOTE not in checked.degraded


def test_a_format_that_the_user_named_samples_every_path() -> None:
    result, started = solve("self-consistency", list(POEMS), chat_task(None, "math", "math"))
    assert started == len(result.paths) == 8
    assert result.outcome is bw.Outcome.NO_ANSWER


@pytest.mark.parametrize("first", [Reply("Oh no", fail_after=1), "word " * 600])
def test_a_first_path_that_broke_or_was_cut_says_nothing(first: str | Reply) -> None:
    result, started = solve("self-consistency", [first, *NUMBERS[:1] * 7])
    assert started == 8
    assert result.answer == "4"


def test_questions_of_a_batch_are_checked_apart() -> None:
    import asyncio

    def script(path: bw.Path, number: int) -> str:
        assert path.root.messages is not None
        return NUMBERS[0] if "number" in path.root.messages.turns[-1].content else POEMS[0]

    questions = ["Write a poem.", "Which number?", "Write another one."]
    run = bw.solve_batch(questions, ScriptedBackend(script), strategy=bw.SelfConsistency(4), task=GUESSED)
    results = asyncio.run(run)
    assert [len(result.paths) for result in results] == [1, 4, 1]
    assert [result.answer for result in results] == [None, "4", None]


def test_a_stopped_run_returns_while_paths_are_held() -> None:
    stop = bw.Stop()

    def script(path: bw.Path, number: int) -> Reply:
        stop.set()
        return Reply(NUMBERS[0], delay=5)

    result = bw.solve_sync("q", ScriptedBackend(script), strategy=bw.SelfConsistency(4), task=GUESSED, stop=stop)
    assert result.outcome is bw.Outcome.CANCELLED
