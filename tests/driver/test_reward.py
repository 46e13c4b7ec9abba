"""`reward_fn`: a user's function of the texts scores replies for best-of-N and searches."""

import asyncio
from collections.abc import Callable

import pytest

import branchwise as bw
from branchwise.backends.scripted.backend import ScriptedBackend

REPLIES = ["The answer is 1.", "So. It is long. The answer is 22.", "The answer is 3."]


def length(question: str, reply: str) -> float:
    assert question == "Which?"
    return len(reply)


async def length_async(question: str, reply: str) -> float:
    await asyncio.sleep(0)
    return length(question, reply)


class Length:
    async def __call__(self, question: str, reply: str) -> float:
        return length(question, reply)


def backend() -> ScriptedBackend:
    return ScriptedBackend(lambda path, number: REPLIES[number % 3] if path.generated == 0 else " The answer is 1.")


@pytest.mark.parametrize("reward", [length, length_async, Length()])
def test_any_callable_scores_the_replies_of_best_of_n(reward: Callable[[str, str], float]) -> None:
    for strategy in (None, "best-of-n", "best-of-n:paths=3", bw.BestOfN(3)):
        result = bw.solve_sync("Which?", backend(), strategy=strategy, reward_fn=reward)
        assert result.answer == "22"


@pytest.mark.parametrize("name", ["beam", "mcts", "best-first", "weighted-best-of-n", "tot-bfs", "particle"])
def test_searches_take_the_reward_as_their_value(name: str) -> None:
    scored = []

    def reward(question: str, reply: str) -> float:
        scored.append(reply)
        return len(reply) / 100

    result = bw.solve_sync("Which?", backend(), strategy=name, reward_fn=reward)
    assert scored
    assert result.answer is not None
    assert not result.errors


def test_thoughts_are_not_scored() -> None:
    seen = []

    def reward(question: str, reply: str) -> float:
        seen.append(reply)
        return 1.0

    replies = ScriptedBackend({"": ["<think>Hm.</think>The answer is 1."]})
    bw.solve_sync("q", replies, strategy="best-of-n:paths=1", reward_fn=reward)
    assert seen == ["The answer is 1."]


def test_a_reward_that_raises_is_reported_and_the_vote_decides() -> None:
    def broken(question: str, reply: str) -> float:
        raise ValueError("no model")

    result = bw.solve_sync("Which?", backend(), strategy="best-of-n:paths=3", reward_fn=broken)
    assert result.answer == "1"
    assert result.errors == ("reward_fn: failed with ValueError: no model",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "self-consistency"}, "reward_fn: is given, but self-consistency scores no replies with it; use"),
        ({"strategy": bw.MCTS(value="logprob")}, "reward_fn: is given, but mcts scores no replies with it; use"),
        ({"verifier": lambda path: 1.0}, "reward_fn: is given together with verifier; leave one of them out"),
        ({"reward_fn": 3}, "reward_fn: is 3, of type int; use a function"),
    ],
)
def test_a_reward_that_cannot_be_used_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(bw.ConfigError) as caught:
        bw.solve_sync("Which?", backend(), **{"reward_fn": length, **options})  # type: ignore[arg-type]
    assert str(caught.value).startswith(message)
