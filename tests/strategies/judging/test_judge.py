"""The judge: pairwise tournaments and ratings, with judges whose preference is known."""

from collections.abc import Callable, Sequence

import pytest

import branchwise as bw
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from tests.support.judge_script import judged_backend, prompt_of, sections

POEMS = ["A rose.", "A violet sky.", "A sea of long grass.", "A dog."]


def longest(prompt: str) -> str:
    """Judge by length, the second one on a tie."""
    shown = sections(prompt)
    better = "A" if len(shown["Response A"]) > len(shown["Response B"]) else "B"
    return f"It has more to say.\nAnswer: {better}"


def rated_by_length(prompt: str) -> str:
    return f"Fine.\nAnswer: {min(10, len(sections(prompt)['Response']) // 2)}"


def solve(
    strategy: bw.Judge,
    replies: Sequence[str | Reply],
    judge: Callable[[str], str | Reply],
    budget: bw.Budget | None = None,
) -> bw.Result:
    return bw.solve_sync("Write a poem.", judged_backend(replies, judge), strategy=strategy, budget=budget)


@pytest.mark.parametrize("paths", range(1, 8))
def test_the_best_reply_wins_a_tournament_of_any_size(paths: int) -> None:
    replies = [f"Line {'x' * (1 + 7 * number % 11)}" for number in range(paths)]
    result = solve(bw.Judge(paths), list(replies), longest)
    assert result.answer == max(replies, key=len)
    assert len(result.paths) == paths
    assert result.outcome is bw.Outcome.COMPLETE


def test_a_judge_that_always_prefers_the_first_place_decides_nothing() -> None:
    result = solve(bw.Judge(4), list(POEMS), lambda prompt: "Answer: A")
    assert result.answer == POEMS[0]
    assert result.votes[POEMS[0]] == 2  # one win in each of two rounds, and as many for its opponents


def test_a_tie_goes_to_the_answer_with_more_votes() -> None:
    result = solve(bw.Judge(5), ["one", "two", "two", "three", "two"], lambda prompt: "Answer: C")
    assert result.answer == "two"


def test_equal_answers_are_judged_once() -> None:
    seen = []

    def judge(prompt: str) -> str:
        seen.append(prompt)
        return longest(prompt)

    result = solve(bw.Judge(8), ["short", "rather long"] * 4, judge)
    assert result.answer == "rather long"
    assert len(seen) == 2  # one match, in both orders
    assert result.tallies["plain"].votes == {"short": 4, "rather long": 4}


def test_several_judgments_of_a_match_are_counted() -> None:
    replies = iter(["Answer: A", "Answer: B", "Answer: B"] * 2)
    result = solve(bw.Judge(2, votes=3), ["one", "two"], lambda prompt: next(replies))
    # First order: one, two, two. Other order: two, one, one.
    assert result.votes == {"one": 3, "two": 3}


def test_ratings_rank_the_replies() -> None:
    result = solve(bw.Judge(4, method="rubric"), list(POEMS), rated_by_length)
    assert result.answer == "A sea of long grass."
    assert result.votes == pytest.approx({POEMS[2]: 1.0, POEMS[1]: 5 / 9, POEMS[0]: 2 / 9, POEMS[3]: 2 / 9})
    assert result.confidence is None


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("Answer: 10", 1.0),
        ("Answer: 9/10", 8 / 9),
        ("Answer: 7.5", 6.5 / 9),
        ("Rating: **4**", 3 / 9),
        ("Answer: 1", 0),
    ],
)
def test_ratings_are_read_in_common_forms(reply: str, value: float) -> None:
    result = solve(
        bw.Judge(2, method="rubric"), ["first try", "other"], lambda p: reply if "first try" in p else "Answer: 10"
    )
    assert result.votes["other"] == 1.0
    assert result.votes["first try"] == pytest.approx(value)


@pytest.mark.parametrize("reply", ["As an AI, I like both.", "Answer: 11", "Answer: 0", "Answer: great"])
def test_an_unreadable_judge_leaves_the_plain_vote(reply: str) -> None:
    result = solve(bw.Judge(3, method="rubric"), ["one", "two", "two"], lambda prompt: reply)
    assert result.answer == "two"
    assert result.degraded[-1].startswith("judge: 2 of 2 replies could not be read, such as ")
    assert reply in result.degraded[-1]


def test_a_failing_judge_leaves_the_plain_vote() -> None:
    result = solve(bw.Judge(3), ["one", "two", "two"], lambda prompt: Reply("Oh no", fail_after=1))
    assert result.answer == "two"
    assert result.errors


def test_the_judges_tokens_count_and_the_budget_holds() -> None:
    free = solve(bw.Judge(4), list(POEMS), longest)
    plain = solve(bw.Judge(1), list(POEMS), longest)
    assert free.usage.sampled > 4 * plain.usage.sampled  # six judgments
    for limit in range(1, free.usage.sampled, 7):
        limited = solve(bw.Judge(4), list(POEMS), longest, budget=bw.Budget(tokens=limit))
        assert limited.usage.sampled <= limit
        assert limited.outcome is bw.Outcome.TOKENS_SPENT or limited.usage.sampled == limit
        assert all(branch.answer is not None for branch in limited.paths) <= (limited.answer is not None)


def test_the_whole_conversation_is_shown_to_the_judge() -> None:
    seen = []

    def judge(prompt: str) -> str:
        seen.append(prompt)
        return longest(prompt)

    conversation = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Name a flower."},
        {"role": "assistant", "content": "A rose."},
        {"role": "user", "content": "Another one."},
    ]
    result = bw.solve_sync(conversation, judged_backend(["Lily.", "Tulips."], judge), strategy=bw.Judge(2))
    assert result.answer == "Tulips."
    assert list(sections(seen[0]).items())[:4] == [
        ("Instructions", "Be brief."),
        ("User", "Another one."),
        ("Assistant", "A rose."),
        ("Response A", "Lily."),
    ]


def test_thoughts_are_not_judged() -> None:
    replies = ["<think>long and longer thoughts</think>short", "a longer reply"]
    result = solve(bw.Judge(2), list(replies), longest)
    assert result.answer == "a longer reply"


def test_a_rubric_of_ones_own_is_in_the_prompt() -> None:
    seen = []

    def judge(path: bw.Path, number: int) -> str:
        seen.append(prompt_of(path))
        return "Answer: 5" if "Does it rhyme?" in prompt_of(path) else f"Poem {number}"

    backend = ScriptedBackend(judge)
    bw.solve_sync("Write.", backend, strategy=bw.Judge(2, method="rubric", rubric="Does it rhyme?"))
    assert sum("Does it rhyme?" in prompt for prompt in seen) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "coin"}, "method: is 'coin'; use pairwise or rubric"),
        ({"votes": 0}, "votes: is 0; use 1 to 100000"),
        ({"rubric": " "}, "rubric: is empty; write what a good reply is"),
        ({"paths": 0}, "paths: is 0; use at least 1"),
    ],
)
def test_invalid_options_name_the_field_and_the_fix(options: dict[str, object], message: str) -> None:
    with pytest.raises(bw.ConfigError) as caught:
        bw.Judge(**options)  # type: ignore[arg-type]
    assert str(caught.value) == message
