"""Universal Self-Consistency: one prompt with all replies, and the number that the model selects."""

import pytest

import branchwise as bw
from tests.support.judge_script import judged_backend

REPLIES = ["Paris is lovely.", "Rome, of course.", "Paris, always.", "Lima."]


def solve(paths: int, reply: str, *, votes: int = 1, context: int = 100_000) -> bw.Result:
    backend = judged_backend(list(REPLIES), lambda prompt: reply, context=context)
    return bw.solve_sync("Which city?", backend, strategy=bw.UniversalSelfConsistency(paths, votes=votes))


@pytest.mark.parametrize(
    ("reply", "index"), [("Two say Paris.\nAnswer: 3", 2), ("Answer: **1**", 0), ("\\boxed{4}", 3)]
)
def test_the_selected_reply_is_the_answer(reply: str, index: int) -> None:
    result = solve(4, reply)
    assert result.answer == REPLIES[index]
    assert result.votes == {REPLIES[index]: 1}
    assert result.confidence is None
    assert len(result.paths) == 4


def test_the_prompt_numbers_every_reply_once() -> None:
    seen = []

    def judge(prompt: str) -> str:
        seen.append(prompt)
        return "Answer: 2"

    bw.solve_sync("Which city?", judged_backend(list(REPLIES), judge), strategy=bw.UniversalSelfConsistency(4))
    (prompt,) = seen
    for number, reply in enumerate(REPLIES, 1):
        assert f"[Response {number}]\n{reply}\n" in prompt
    assert prompt.startswith("[Question]\nWhich city?\n")


@pytest.mark.parametrize("reply", ["Answer: 5", "Answer: 0", "Answer: 1.5", "All of them."])
def test_a_number_of_no_reply_leaves_the_plain_vote(reply: str) -> None:
    result = solve(4, reply)
    assert result.answer == REPLIES[0]
    assert result.degraded[-1].startswith("judge: 1 of 1 replies could not be read, such as")


def test_several_selections_vote() -> None:
    selected = iter(["Answer: 2", "Answer: 4", "Answer: 4"])
    backend = judged_backend(list(REPLIES), lambda prompt: next(selected))
    result = bw.solve_sync("Which city?", backend, strategy=bw.UniversalSelfConsistency(4, votes=3))
    assert result.votes == {"Lima.": 2, "Rome, of course.": 1}
    assert result.answer == "Lima."


def test_one_reply_needs_no_selection() -> None:
    result = solve(1, "Answer: 1")
    assert result.answer == REPLIES[0]
    assert len(result.paths) == 1


def test_replies_beyond_the_context_are_left_out_with_a_note() -> None:
    whole = solve(4, "Answer: 2")
    assert not any("context" in note for note in whole.degraded)
    prompt = whole.usage.prompt
    for context in range(prompt, 60, -8):
        result = solve(4, "Answer: 2", context=context)
        if any("the model's context holds 2 of the 4 replies" in note for note in result.degraded):
            assert result.answer == REPLIES[1]
            return
    pytest.fail("no context was too short for four replies and long enough for two")
