"""Weighted votes, with the weights worked by hand."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

import branchwise as bw
from branchwise.backends.base import Scores
from branchwise.backends.scripted.backend import Reply
from tests.support.votes_lab import BROKEN, FULL, NO_LOGPROBS, SAYS, TEXT, Scripted, Uneven, run, stated


def reply(answer: str, *probabilities: float) -> Uneven:
    """Five tokens of these probabilities."""
    return Uneven(SAYS.format(answer), logprobs=tuple(map(math.log, probabilities)))


# "1" is said evenly, "2" nearly surely but for one doubtful token.
EVEN_AND_DOUBTFUL = [reply("1", 0.5), reply("2", 1, 1, 1, 1 / 16, 1)]


@pytest.mark.parametrize(
    ("trust", "weights"),
    [
        ("mean", {"1": 1 / 2, "2": (1 / 16) ** (1 / 5)}),  # the geometric mean: 0.574 against 0.5
        ("min", {"1": 1 / 2, "2": 1 / 16}),
        ("product", {"1": 1 / 2, "2": 1.0}),  # 1/32 and 1/16, the larger called 1
    ],
)
def test_trust_is_made_of_the_tokens_probabilities(trust: str, weights: dict[str, float]) -> None:
    result = run(bw.WeightedVote(2, trust), EVEN_AND_DOUBTFUL)  # type: ignore[arg-type]
    assert result.votes == pytest.approx(weights)
    assert result.answer == max(weights, key=lambda answer: weights[answer])


def test_products_of_long_paths_are_told_apart() -> None:
    """e^-1000 and e^-750 are both 0 in a float."""
    paths = [
        Reply("word " * 99 + "The answer is 1.", -1000 / 104),
        Reply("word " * 99 + "The answer is 2.", -750 / 104),
    ]
    result = run(bw.WeightedVote(2, "product"), paths)
    assert result.votes == pytest.approx({"2": 1.0, "1": 0.0})
    assert result.answer == "2"


def test_weights_of_an_answer_add_up_and_a_plain_vote_says_how_sure_it_is() -> None:
    result = run(bw.WeightedVote(4), [reply("1", 0.25), reply("2", 0.75), reply("1", 0.25), "-"])
    assert result.votes == pytest.approx({"2": 0.75, "1": 0.5})
    assert result.answer == "2"
    assert result.tallies["plain"].votes == {"1": 2, "2": 1}
    assert result.confidence == pytest.approx(5 / 16)  # P(Beta(2, 3) > 1/2) = P(Bin(4, 1/2) <= 1)


def test_a_temperature_makes_weights_a_softmax_over_the_question() -> None:
    """With 1/4 ln 2 a quarter more trust counts twice."""
    strategy = bw.WeightedVote(4, temperature=0.25 / math.log(2))
    result = run(strategy, [reply("1", 0.25), reply("1", 0.5), reply("2", 0.75), "-"])
    assert result.votes == pytest.approx({"1": 1 / 7 + 2 / 7, "2": 4 / 7})


class Judging(Scripted):
    """Calls the path of branch n right with the n-th of these probabilities; None: fails to say."""

    def __init__(self, answers: str, verdicts: Sequence[float | None], able: bw.Capabilities = FULL) -> None:
        super().__init__(lambda path, before: f"Path {before}. {SAYS.format(answers[before])}", capabilities=able)
        self.verdicts = verdicts
        self.asked: list[bw.Messages] = []

    async def score(self, path: bw.Path, continuations: Sequence[str]) -> Scores:
        assert path.messages is not None
        self.asked.append(path.messages)
        said = path.messages.turns[-2].content
        true = self.verdicts[int(said.split()[1].rstrip("."))]
        await asyncio.sleep(0.003 if true == 0.9 else 0)  # the surest verdict comes last
        if true is None:
            raise bw.BackendError("no verdict", retryable=False, hint="ask another")
        cost = (await super().score(path, continuations)).cost
        # Half of the mass is on neither word; a verdict of two tokens has the product of their probabilities.
        given = {"True": true / 2, "False": (1 - true) / 2}
        return Scores(tuple((math.log(given[text]) / 2,) * 2 for text in continuations), cost)


def test_p_true_is_the_probability_of_true_among_the_verdicts() -> None:
    result = bw.solve_sync("q", Judging("112", [0.3, 0.2, 0.9]), strategy=bw.WeightedVote(3, "p-true"))
    assert result.votes == pytest.approx({"2": 0.9, "1": 0.5})
    assert stated(result) == "112"  # judgments are no paths
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
    roles = [(turn.role, turn.content) for turn in backend.asked[0].turns[-3:]]
    assert roles[:2] == [("user", "q"), ("assistant", "Path 0. The answer is 1.")]
    assert roles[2][0] == "user"
    assert "True or False" in roles[2][1]


def test_a_judge_that_fails_costs_that_path_its_vote_alone() -> None:
    result = bw.solve_sync("q", Judging("1122", [0.6, None, 0.5, 0.4]), strategy=bw.WeightedVote(4, "p-true"))
    assert result.votes == pytest.approx({"2": 0.9, "1": 0.6})
    assert result.answer == "2"
    assert result.errors == ("no verdict; ask another",)
    assert result.outcome is bw.Outcome.COMPLETE
    assert result.degraded == ()


def test_paths_without_an_answer_are_not_judged() -> None:
    backend = Judging("-1", [0.5, 0.5])
    bw.solve_sync("q", backend, strategy=bw.WeightedVote(2, "p-true"))
    assert [messages.turns[-2].content[:7] for messages in backend.asked] == ["Path 1."]


@pytest.mark.parametrize("verdict", [0.0, 1.0])
def test_a_verdict_may_be_certain(verdict: float) -> None:
    class Certain(Judging):
        async def score(self, path: bw.Path, continuations: Sequence[str]) -> Scores:
            scores = await super().score(path, continuations)
            rows = [(0.0,) if (text == "True") == bool(verdict) else (-math.inf,) for text in continuations]
            return replace(scores, logprobs=tuple(rows))

    result = bw.solve_sync("q", Certain("1", [0.5]), strategy=bw.WeightedVote(1, "p-true"))
    assert result.votes == {"1": verdict}


@pytest.mark.parametrize("able", [TEXT, NO_LOGPROBS])
@pytest.mark.parametrize("trust", ["mean", "min", "product"])
def test_without_log_probabilities_the_majority_answers(trust: str, able: bw.Capabilities) -> None:
    result = run(bw.WeightedVote(3, trust), "112", able)  # type: ignore[arg-type]
    assert (result.answer, result.votes) == ("1", {"1": 2, "2": 1})
    assert "weighted-vote: nothing tells how far to trust a path, so the majority answered" in result.degraded


def test_without_scores_the_majority_answers() -> None:
    able = replace(FULL, score=False)
    result = bw.solve_sync("q", Judging("112", [0.1, 0.1, 0.9], able), strategy=bw.WeightedVote.cisc(3))
    assert (result.answer, result.votes) == ("1", {"1": 2, "2": 1})
    assert any("the majority answered" in note for note in result.degraded)
    assert any("does not score" in note for note in result.degraded)


def test_tokens_are_not_needed_where_log_probabilities_are_reported() -> None:
    able = replace(FULL, token_in=False, token_out=False)
    result = run(
        bw.WeightedVote(2), [Reply(SAYS.format(1), math.log(0.5)), Reply(SAYS.format(2), math.log(0.25))], able
    )
    assert result.votes == pytest.approx({"1": 0.5, "2": 0.25})


def test_failed_paths_have_no_vote() -> None:
    result = run(bw.WeightedVote(3), [BROKEN, reply("1", 0.5), reply("2", 0.25)])
    assert result.votes == pytest.approx({"1": 0.5, "2": 0.25})


@pytest.mark.parametrize(
    ("field", "value"), [("paths", 0), ("trust", "guess"), ("temperature", 0), ("temperature", -1)]
)
def test_fields_are_checked_at_construction(field: str, value: object) -> None:
    with pytest.raises(bw.ConfigError, match=field) as caught:
        bw.WeightedVote(**{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field
