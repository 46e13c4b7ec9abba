"""DeepConf offline: confidences, voting paths and their weights, worked out by hand."""

import math

import pytest

import branchwise as bw
from branchwise.backends.base import ExtendRequest
from branchwise.backends.stream import Extension
from branchwise.core.path import Path, TopLogprob
from branchwise.strategies.voting.trace_confidence import group_confidences, token_confidence, token_confidences
from tests.support.vote_scripts import (
    BROKEN,
    NO_LOGPROBS,
    TEXT_ONLY,
    LogprobBackend,
    ReplyWithLogprobs,
    answers_of,
    confident,
    run,
)

ROOT = Path(parent=None, key=1, token_ids=(1,), text="")


def test_token_confidence_is_the_mean_surprise_of_alternatives() -> None:
    assert token_confidence([TopLogprob(1, -0.25), TopLogprob(2, -1.5), TopLogprob(3, -4.25)]) == 2.0


def test_confidence_covers_the_sampled_tokens_only() -> None:
    rows = ((TopLogprob(1, -1.0), TopLogprob(2, -3.0)),)
    first = Path(ROOT, 2, (5,), "a", top_logprobs=rows)
    forced = Path(first, 2, (6, 7), "bc", forced=True)
    assert token_confidences(Path(forced, 3, (8, 9), "de", top_logprobs=rows * 2)) == [2.0, 2.0, 2.0]
    assert token_confidences(Path(forced, 3, (8, 9), "de")) is None
    assert token_confidences(ROOT) is None


def test_a_groups_mean_does_not_depend_on_earlier_tokens() -> None:
    """DeepConfOnline drops tokens that no later group needs, and compares with thresholds from whole paths."""
    tokens = [math.sin(n) * 7 + 9 for n in range(200)]
    assert group_confidences(tokens, 48)[100:] == group_confidences(tokens[100:], 48)


# Windows of two: 3, 1.5, 2, 4.
SHORT = confident("1", 4, 2, 1, 3, 5)
# Twenty windows of two: nine of 4, then 2, 1, 3, and eight of 4. The least confident tenth are 1 and 2.
LONG = confident("1", *[4] * 10, 0, 2, *[4] * 9, words=16)


@pytest.mark.parametrize(
    ("path", "group", "measured"),
    [
        (SHORT, 2, {"lowest": 1.5, "tail": 4.0, "bottom": 1.5}),
        (LONG, 2, {"lowest": 1.0, "tail": 4.0, "bottom": 1.5}),
        (SHORT, 1, {"lowest": 1.0, "tail": 5.0, "bottom": 1.0}),
        (SHORT, 48, {"lowest": 3.0, "tail": 3.0, "bottom": 3.0}),  # a path shorter than a group is one group
    ],
)
def test_a_paths_confidence_is_computed_from_its_groups(
    path: ReplyWithLogprobs, group: int, measured: dict[str, float]
) -> None:
    for measure, value in measured.items():
        result = run(bw.DeepConf(1, measure=measure, group=group), [path])  # type: ignore[arg-type]
        assert result.votes == pytest.approx({"1": value})


@pytest.mark.parametrize(
    ("keep", "votes"),
    [
        (1.0, {"1": 4.5, "2": 4}),
        (0.9, {"1": 4.5, "2": 4}),  # 3.6 of the four with an answer round to all
        (0.75, {"2": 4, "1": 3.5}),
        (0.5, {"2": 4, "1": 2}),
        (0.1, {"2": 4}),  # at least one
    ],
)
def test_the_most_confident_paths_vote_with_their_confidence(keep: float, votes: dict[str, float]) -> None:
    replies = [confident("2", 4), confident("1", 1), confident("-", 9), confident("1", 2), confident("1", 1.5)]
    result = run(bw.DeepConf(5, keep=keep), replies)
    assert result.votes == pytest.approx(votes)
    assert result.answer == next(iter(votes))
    assert result.tallies["plain"].votes == {"1": 3, "2": 1}
    expected = 13 / 16 if result.answer == "1" else 3 / 16  # P(Bin(5, 1/2) <= 3), and <= 1 for the other answer
    assert result.confidence == pytest.approx(expected)


def test_paths_at_the_threshold_vote() -> None:
    assert run(bw.DeepConf(3, keep=0.34), [confident(answer, 2) for answer in "112"]).votes == {"1": 4, "2": 2}


@pytest.mark.parametrize(("configured", "requested"), [(0, 20), (30, 30)])
def test_at_least_twenty_alternatives_are_requested(configured: int, requested: int) -> None:
    seen: list[int] = []

    class RecordingBackend(LogprobBackend):
        def extend(self, request: ExtendRequest) -> Extension:
            seen.append(request.sampling.logprobs)
            return super().extend(request)

    strategy = bw.DeepConf(2, sampling=bw.Sampling(logprobs=configured))
    bw.solve_sync("q", RecordingBackend({"": ["The answer is 1."]}), strategy=strategy)
    assert seen == [requested]


@pytest.mark.parametrize("capabilities", [TEXT_ONLY, NO_LOGPROBS])
def test_without_alternatives_the_majority_answers(capabilities: bw.Capabilities) -> None:
    result = run(bw.DeepConf(3), [confident("2", 9), confident("1", 1), confident("1", 1)], capabilities)
    assert (result.answer, result.votes) == ("1", {"1": 2, "2": 1})
    assert any(note.startswith("deepconf: no path has the top log-probabilities") for note in result.degraded)


def test_failed_paths_have_no_vote() -> None:
    result = run(bw.DeepConf(3), [BROKEN, confident("1", 2), confident("2", 1)])
    assert answers_of(result) == "12"
    assert result.votes == pytest.approx({"1": 2, "2": 1})


@pytest.mark.parametrize(
    ("field", "value"), [("paths", 0), ("keep", 0), ("keep", 1.5), ("measure", "highest"), ("group", 0)]
)
def test_fields_are_validated_at_construction(field: str, value: object) -> None:
    with pytest.raises(bw.ConfigError, match=field) as caught:
        bw.DeepConf(**{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field
