"""Short texts about a result, shared by `print(result)`, the command line and notebooks."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from branchwise.core.usage import Usage

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
_SHOWN_VOTES = 8


class SummaryLine(NamedTuple):
    """One line of a summary; the value has no control characters."""

    name: str
    value: str


def printable(text: str) -> str:
    """Return untrusted text on one line, without control characters and unpaired surrogates."""
    return _CONTROLS.sub(" ", text)


def clipped(text: str, chars: int) -> str:
    """Return untrusted text on one line of at most `chars` characters."""
    return cut(" ".join(printable(text).split()), chars)


def cut(line: str, chars: int) -> str:
    """Return the line, or its beginning and an ellipsis if it has more than `chars` characters."""
    return line if len(line) <= chars else f"{line[: chars - 1]}…"


def percent(share: float) -> str:
    """Return a probability as a percentage that is never rounded up to 100%."""
    return "above 99.9%" if share > 0.999 else f"{share:.1%}"


def vote_counts(votes: Mapping[str, float]) -> str:
    """Return the first answers with their votes, and the number of the others."""
    shown = "  ".join(f"{answer} ×{weight:g}" for answer, weight in list(votes.items())[:_SHOWN_VOTES])
    more = len(votes) - _SHOWN_VOTES
    return (shown or "none") + (f"  and {more} more" if more > 0 else "")


def answer_lines(answer: str | None, confidence: float | None, votes: Mapping[str, float]) -> Iterator[SummaryLine]:
    """Yield the answer, its confidence if there is one, and the votes."""
    yield SummaryLine("answer", "none" if answer is None else printable(answer))
    if confidence is not None:
        yield SummaryLine("confidence", percent(confidence))
    yield SummaryLine("votes", printable(vote_counts(votes)))


def note_lines(notes: Sequence[str], most: int | None) -> Iterator[SummaryLine]:
    """Yield at most `most` lines about the notes; the last one counts the others."""
    shown = len(notes) if most is None or len(notes) <= most else most - 1
    for note in notes[:shown]:
        yield SummaryLine("note", printable(note))
    if shown < len(notes):
        yield SummaryLine("note", f"and {len(notes) - shown} more")


def usage_lines(usage: Usage) -> Iterator[SummaryLine]:
    """Yield the tokens of the prompts, the sampled tokens, and the time."""
    yield SummaryLine("prompt", f"{usage.prompt} tokens: {usage.reused} reused, {usage.prefilled} prefilled")
    drafts = f", {usage.accepted} of {usage.drafted} draft tokens accepted" if usage.drafted else ""
    yield SummaryLine("sampled", f"{usage.sampled} tokens, {usage.discarded} of them discarded{drafts}")
    yield SummaryLine("time", f"{usage.seconds:.1f} s, {usage.forward_passes:.0f} forward passes")
