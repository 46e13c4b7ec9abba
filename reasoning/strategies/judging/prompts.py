"""Prompts of judges, and the readings of their replies. Every prompt is plain chat, so it works over any server."""

from collections.abc import Sequence
from dataclasses import replace

from branchwise.answers.choices import Letter, YesNo
from branchwise.core.answer import Answer
from branchwise.core.messages import Message, Messages
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.prompts.task import Task
from branchwise.prompts.thinking import Thinking
from branchwise.strategies.judging.number import JudgeNumber

_TOKENS = 256
CHOOSE = Task(name="judge-choice", format=JudgeNumber(), max_tokens=_TOKENS)
COMPARE = Task(name="judge-comparison", format=Letter("ABC"), max_tokens=_TOKENS)
RATE = Task(name="judge-rating", format=JudgeNumber(), max_tokens=_TOKENS)
SAME = Task(name="judge-meaning", format=YesNo(), max_tokens=_TOKENS)

RUBRIC = (
    "Is it correct? Does it follow the instructions and answer the whole question? Is it clear and free of padding?"
)
_LOWEST, _HIGHEST = 1, 10
_ROLES = {"system": "Instructions", "user": "User", "assistant": "Assistant", "tool": "Tool"}


def judge_sampling(sampling: Sampling) -> Sampling:
    """Return the sampling settings of a judge's reply: those of the paths, without their limit and stop strings."""
    return replace(sampling, max_tokens=None, stop=())


def reply_of(path: Path) -> str:
    """Return a path's reply without its thoughts."""
    return Thinking().answer_part(path.answer_text).strip()


def choose_prompt(root: Path, replies: Sequence[str]) -> Messages:
    """Return a request for the number of the reply that most replies agree with.

    The selection of Universal Self-Consistency (Chen et al. 2023, arXiv 2311.17311).
    """
    numbered = "\n\n".join(f"[Response {number}]\n{reply}" for number, reply in enumerate(replies, 1))
    return _prompt(
        root,
        f"Here are {len(replies)} responses to it.\n\n{numbered}\n\nEvaluate the responses. Select the one that most "
        'of the others agree with. End with a line "Answer: N", where N is its number.',
    )


def compare_prompt(root: Path, first: str, second: str) -> Messages:
    """Return a request for the better of two replies: A, B, or C if they are equally good."""
    return _prompt(
        root,
        f"Here are two responses to it.\n\n[Response A]\n{first}\n\n[Response B]\n{second}\n\n"
        'Compare how correct and how helpful they are, not their length or order. End with a line "Answer: A" if '
        'response A is better, "Answer: B" if response B is better, or "Answer: C" if they are equally good.',
    )


def rate_prompt(root: Path, reply: str, rubric: str, *, finished: bool = True) -> Messages:
    """Return a request for a rating of a reply from 1 to 10."""
    shown = "Here is a response to it." if finished else "Here is the beginning of a response to it."
    asked = rubric if finished else "Is it correct so far, and will it lead to a right and complete answer?"
    return _prompt(
        root,
        f"{shown}\n\n[Response]\n{reply}\n\n{asked} Give reasons in one or two sentences. End with a "
        f'line "Rating: N", where N is a number from {_LOWEST} (useless) to {_HIGHEST} (perfect).',
    )


def same_prompt(root: Path, first: str, second: str) -> Messages:
    """Return a request to decide whether two replies mean the same."""
    return _prompt(
        root,
        f"Here are two answers to it.\n\n[First answer]\n{first}\n\n[Second answer]\n{second}\n\n"
        "Do they mean the same, apart from wording and detail? Answer with yes or no alone.",
    )


def rating_of(answer: Answer | None) -> float | None:
    """Return a judge's rating from 0 (lowest) to 1, or None if its reply has no valid one."""
    rating = None if answer is None else float(answer.value)
    if rating is None or not _LOWEST <= rating <= _HIGHEST:
        return None
    return (rating - _LOWEST) / (_HIGHEST - _LOWEST)


def choice_of(answer: Answer | None, replies: int) -> int | None:
    """Return the index of the reply that a judge names, or None if it names none of `replies`."""
    number = 0.0 if answer is None else float(answer.value)
    return int(number) - 1 if number.is_integer() and 1 <= number <= replies else None


def _prompt(root: Path, request: str) -> Messages:
    """Return the conversation as a text that is judged, and the request."""
    conversation = root.root.messages
    assert conversation is not None
    turns = [turn for turn in conversation.turns if turn.content.strip()]
    if len(turns) == 1:
        shown = f"[Question]\n{turns[0].content}"
    else:
        shown = "\n\n".join(f"[{_ROLES[turn.role]}]\n{turn.content}" for turn in turns)
    return Messages(turns=(Message(role="user", content=f"{shown}\n\n{request}"),), thinking=False)
