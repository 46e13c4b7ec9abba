"""Weighted votes, with the weights worked out by hand."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

import branchwise as bw
from branchwise.backends.base import Scores
from branchwise.backends.scripted.backend import Reply
from tests.support.vote_scripts import (
    ANSWER,
    BROKEN,
    FULL,
    NO_LOGPROBS,
    TEXT_ONLY,
    LogprobBackend,
    ReplyWithLogprobs,
    answers_of,
    run,
)


def reply(answer: str, *probabilities: float) -> ReplyWithLogprobs:
    """Return a reply of five tokens with these probabilities."""
    return ReplyWithLogprobs(ANSWER.format(answer), logprobs=tuple(map(math.log, probabilities)))


# All tokens of "1" have probability 1/2. Those of "2" have 1, but one has 1/16.
EVEN_AND_UNEVEN = [reply("1", 0.5), reply("2", 1, 1, 1, 1 / 16, 1)]


@pytest.mark.parametrize(
    ("trust", "weights"),
    [
        ("mean", {"1": 1 / 2, "2": (1 / 16) ** (1 / 5)}),  # the geometric mean: 0.574 against 0.5
        ("min", {"1": 1 / 2, "2": 1 / 16}),
        ("product", {"1": 1 / 2, "2": 1.0}),  # 1/32 and 1/16, relative to the larger
    ],
)
def test_trust_is_computed_from_token_probabilities(trust: str, weights: dict[str, float]) -> None:
    result = run(bw.WeightedVote(2, trust), EVEN_AND_UNEVEN)  # type: ignore[arg-type]
    assert result.votes == pytest.approx(weights)
    assert result.answer == max(weights, key=lambda answer: weights[answer])


def test_products_of_long_paths_differ() -> None:
    """e^-1000 and e^-750 both underflow to 0."""
    paths = [
        Reply("word " * 99 + "The answer is 1.", -1000 / 104),
        Reply("word " * 99 + "The answer is 2.", -750 / 104),
    ]
    result = run(bw.WeightedVote(2, "product"), paths)
    assert result.votes == pytest.approx({"2": 1.0, "1": 0.0})
    assert result.answer == "2"


def test_weights_are_summed_and_confidence_is_from_plain_votes() -> None:
    result = run(bw.WeightedVote(4), [reply("1", 0.25), reply("2", 0.75), reply("1", 0.25), "-"])
    assert result.votes == pytest.approx({"2": 0.75, "1": 0.5})
    assert result.answer == "2"
    assert result.tallies["plain"].votes == {"1": 2, "2": 1}
    assert result.confidence == pytest.approx(5 / 16)  # P(Beta(2, 3) > 1/2) = P(Bin(4, 1/2) <= 1)


def test_with_a_temperature_weights_are_a_softmax() -> None:
    """At 1/(4 ln 2), a trust that is 1/4 higher doubles the weight."""
    strategy = bw.WeightedVote(4, temperature=0.25 / math.log(2))
    result = run(strategy, [reply("1", 0.25), reply("1", 0.5), reply("2", 0.75), "-"])
    assert result.votes == pytest.approx({"1": 1 / 7 + 2 / 7, "2": 4 / 7})


class Judging(LogprobBackend):
    """Gives "True" the n-th probability for branch n; None fails."""

    def __init__(self, answers: str, verdicts: Sequence[float | None], capabilities: bw.Capabilities = FULL) -> None:
        super().__init__(
            lambda path, before: f"Path {before}. {ANSWER.format(answers[before])}", capabilities=capabilities
        )
        self.verdicts = verdicts
        self.prompts: list[bw.Messages] = []

    async def score(self, path: bw.Path, continuations: Sequence[str]) -> Scores:
        assert path.messages is not None
        self.prompts.append(path.messages)
        reply = path.messages.turns[-2].content
        true = self.verdicts[int(reply.split()[1].rstrip("."))]
        await asyncio.sleep(0.003 if true == 0.9 else 0)  # the most confident verdict arrives last
        if true is None:
            raise bw.BackendError("no verdict", retryable=False, hint="retry")
        cost = (await super().score(path, continuations)).cost
        # Half of the probability is on neither word. A reply of two tokens has the product of their probabilities.
        given = {"True": true / 2, "False": (1 - true) / 2}
        return Scores(tuple((math.log(given[text]) / 2,) * 2 for text in continuations), cost)


def test_p_true_is_the_probability_of_true_among_the_verdicts() -> None:
    result = bw.solve_sync("q", Judging("112", [0.3, 0.2, 0.9]), strategy=bw.WeightedVote(3, "p-true"))
    assert result.votes == pytest.approx({"2": 0.9, "1": 0.5})
    assert answers_of(result) == "112"  # judge prompts add no paths
    assert result.usage.scored == 3 * 2
    assert result.errors == ()


def test_cisc_is_a_softmax_over_p_true() -> None:
    assert bw.WeightedVote.cisc(3) == bw.WeightedVote(3, "p-true", 0.1)
    result = bw.solve_sync("q", Judging("112", [0.5, 0.5, 0.9]), strategy=bw.WeightedVote.cisc(3))
    total = 1 + 2 * math.exp(-4)
    assert result.votes == pytest.approx({"2": 1 / total, "1": 2 * math.exp(-4) / total})
    assert result.tallies["plain"].votes == {"1": 2, "2": 1}


def test_the_judge_sees_the_question_and_the_whole_path() -> None:
    backend = Judging("1", [0.5])
    bw.solve_sync("q", backend, strategy=bw.WeightedVote(1, "p-true"))
    roles = [(turn.role, turn.content) for turn in backend.prompts[0].turns[-3:]]
    assert roles[:2] == [("user", "q"), ("assistant", "Path 0. The answer is 1.")]
    assert roles[2][0] == "user"
    assert "True or False" in roles[2][1]


def test_a_failed_judge_prompt_costs_one_vote() -> None:
    result = bw.solve_sync("q", Judging("1122", [0.6, None, 0.5, 0.4]), strategy=bw.WeightedVote(4, "p-true"))
    assert result.votes == pytest.approx({"2": 0.9, "1": 0.6})
    assert result.answer == "2"
    assert result.errors == ("no verdict; retry",)
    assert result.outcome is bw.Outcome.COMPLETE
    assert result.degraded == ()


def test_paths_without_an_answer_are_not_judged() -> None:
    backend = Judging("-1", [0.5, 0.5])
    bw.solve_sync("q", backend, strategy=bw.WeightedVote(2, "p-true"))
    assert [messages.turns[-2].content[:7] for messages in backend.prompts] == ["Path 1."]


@pytest.mark.parametrize("verdict", [0.0, 1.0])
def test_a_verdict_may_be_certain(verdict: float) -> None:
    class Certain(Judging):
        async def score(self, path: bw.Path, continuations: Sequence[str]) -> Scores:
            scores = await super().score(path, continuations)
            rows = [(0.0,) if (text == "True") == bool(verdict) else (-math.inf,) for text in continuations]
            return replace(scores, logprobs=tuple(rows))

    result = bw.solve_sync("q", Certain("1", [0.5]), strategy=bw.WeightedVote(1, "p-true"))
    assert result.votes == {"1": verdict}


@pytest.mark.parametrize("capabilities", [TEXT_ONLY, NO_LOGPROBS])
@pytest.mark.parametrize("trust", ["mean", "min", "product"])
def test_without_log_probabilities_the_majority_answers(trust: str, capabilities: bw.Capabilities) -> None:
    result = run(bw.WeightedVote(3, trust), "112", capabilities)  # type: ignore[arg-type]
    assert (result.answer, result.votes) == ("1", {"1": 2, "2": 1})
    assert "weighted-vote: the trust in every path is unknown, so the majority answered" in result.degraded


def test_without_scores_the_majority_answers() -> None:
    capabilities = replace(FULL, score=False)
    result = bw.solve_sync("q", Judging("112", [0.1, 0.1, 0.9], capabilities), strategy=bw.WeightedVote.cisc(3))
    assert (result.answer, result.votes) == ("1", {"1": 2, "2": 1})
    assert any("the majority answered" in note for note in result.degraded)
    assert any("does not score" in note for note in result.degraded)


def test_log_probabilities_without_token_ids_are_enough() -> None:
    capabilities = replace(FULL, token_in=False, token_out=False)
    result = run(
        bw.WeightedVote(2),
        [Reply(ANSWER.format(1), math.log(0.5)), Reply(ANSWER.format(2), math.log(0.25))],
        capabilities,
    )
    assert result.votes == pytest.approx({"1": 0.5, "2": 0.25})


def test_failed_paths_have_no_vote() -> None:
    result = run(bw.WeightedVote(3), [BROKEN, reply("1", 0.5), reply("2", 0.25)])
    assert result.votes == pytest.approx({"1": 0.5, "2": 0.25})


@pytest.mark.parametrize(
    ("field", "value"), [("paths", 0), ("trust", "guess"), ("temperature", 0), ("temperature", -1)]
)
def test_fields_are_validated_at_construction(field: str, value: object) -> None:
    with pytest.raises(bw.ConfigError, match=field) as caught:
        bw.WeightedVote(**{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field
