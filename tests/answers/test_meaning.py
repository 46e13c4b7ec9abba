"""Answers grouped by the similarity of their embeddings."""

import math
from collections.abc import Callable, Sequence

import pytest

import branchwise as bw
from branchwise.backends.scripted.backend import ScriptedBackend

ANGLES = {"It is Paris.": 0, "Paris!": 10, "Rome": 90, "Roma": 100, "Perhaps Paris": 20}


def embed(text: str) -> Sequence[float]:
    angle = math.radians(ANGLES[text])
    return [5 * math.cos(angle), 5 * math.sin(angle)]  # lengths do not count


async def embed_async(text: str) -> Sequence[float]:
    return embed(text)


def solve(task: bw.Task) -> bw.Result:
    return bw.solve_sync("q", ScriptedBackend({"": list(ANGLES)}), strategy=bw.SelfConsistency(5), task=task)


@pytest.mark.parametrize("function", [embed, embed_async])
def test_similar_replies_vote_together(function: Callable[[str], Sequence[float]]) -> None:
    assert solve(bw.by_meaning(function)).votes == {"It is Paris.": 3, "Rome": 2}
    apart = solve(bw.by_meaning(function, similarity=math.cos(math.radians(15))))
    assert apart.votes == {"It is Paris.": 2, "Rome": 2, "Perhaps Paris": 1}


def test_answers_of_another_format_are_compared() -> None:
    backend = ScriptedBackend({"": ["Long talk.\nAnswer: Rome", "Other talk.\nAnswer: Roma"]})
    task = bw.by_meaning(embed, base=bw.task("text"))
    assert bw.solve_sync("q", backend, strategy=bw.SelfConsistency(2), task=task).votes == {"Rome": 2}


@pytest.mark.parametrize("vector", [[], [0.0, 0.0], [math.nan], [math.inf], None, 3.0, ["a"]])
def test_an_invalid_embedding_is_an_error_of_its_path(vector: object) -> None:
    result = solve(bw.by_meaning(lambda text: vector))  # type: ignore[arg-type, return-value]
    assert result.outcome is bw.Outcome.FAILED
    assert result.errors[0].startswith("task free-form: failed with ")


def test_embeddings_of_different_lengths_are_an_error() -> None:
    vectors = iter([[1.0], [1.0, 2.0]])
    backend = ScriptedBackend({"": ["one", "two"]})
    task = bw.by_meaning(lambda text: next(vectors))
    result = bw.solve_sync("q", backend, strategy=bw.SelfConsistency(2), task=task)
    assert result.votes == {"one": 1}
    assert result.errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embed": "model"}, "embed: is 'model', of type str; use a function of a text"),
        ({"embed": embed, "similarity": 1.5}, "similarity: is 1.5; use a number above -1, at most 1"),
    ],
)
def test_invalid_arguments_name_the_field(options: dict[str, object], message: str) -> None:
    with pytest.raises(bw.ConfigError) as caught:
        bw.by_meaning(**options)  # type: ignore[arg-type]
    assert str(caught.value).startswith(message)
