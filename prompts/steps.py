"""Where the steps of a reasoning path end: after a line or a sentence, at a token boundary.

Never inside a number, a LaTeX group or a code fence: a prefix cut there would ask the model to go on
from the middle of a thing.
"""

import re
from collections.abc import Iterator

from branchwise.path import Path

# What may end a step (a newline, or sentence punctuation before white space), and what opens or
# closes a region in which nothing ends one.
_MARKS = re.compile(
    r"(?P<fence>```)"
    r"|(?P<escaped>\\[\\${}])"
    r"|(?P<open>\\\(|\\\[|\\begin\{)"
    r"|(?P<close>\\\)|\\\]|\\end\{[^}]*\})"
    r"|(?P<display>\$\$)"
    r"|(?P<brace>\{)|(?P<unbrace>\})"
    r"|(?P<newline>\n\s*)"
    r"|(?P<sentence>[.!?](?:[\"')\]*]*)(?=[ \t]))"
)
_NOT_A_SENTENCE = re.compile(
    r"(?:^|\n)\s*\(?(?:\d+|[A-Za-z])$"  # "1. " opens a list item
    r"|\b(?:Mr|Mrs|Ms|Dr|St|vs|e\.g|i\.e|etc|approx|No|Fig|Eq|[A-Z])$"
)


def step_ends(path: Path) -> tuple[int, ...]:
    """Token counts from the prompt on at which the path's steps end; the last is its whole length.

    `path.cut(n)` for one of them is the path up to that step. White space alone is no step.
    """
    if path.generated == 0:
        return ()
    prefix = len(path.answer_text) - sum(len(segment.text) for segment in path.segments())
    text = path.answer_text
    last = len(text.rstrip())
    ends = _token_ends(path, prefix)
    counts: list[int] = []
    at, start = 0, prefix
    for end in _boundaries(text):
        if end <= prefix or end >= last or not text[start:end].strip():
            continue
        while at < len(ends) and ends[at] < end:
            at += 1
        # The cut is after the token that ends the step. Where that token runs on into the next one, it
        # is before it, if only white space is lost; else there is none.
        count = at + 1
        if at == len(ends) or text[end : ends[at]].strip():
            if at == 0 or text[ends[at - 1] : end].strip():
                continue
            count = at
        if not counts or count > counts[-1]:
            counts.append(count)
            start = end
    if not counts or counts[-1] < path.generated:
        counts.append(path.generated)
    return tuple(counts)


def _token_ends(path: Path, prefix: int) -> list[int]:
    """[generated tokens] the length of `path.answer_text` once each token is read."""
    ends: list[int] = []
    before = prefix
    for segment in path.segments():
        ends.extend(before + end for end in segment.ends)
        before += len(segment.text)
    return ends


def _boundaries(text: str) -> Iterator[int]:
    """Character positions after which a step ends, in order."""
    depth, fenced, display = 0, False, False
    for mark in _MARKS.finditer(text):
        kind = mark.lastgroup
        if kind == "fence":
            fenced = not fenced
        elif fenced:
            continue
        elif kind in ("open", "brace"):
            depth += 1
        elif kind in ("close", "unbrace"):
            depth = max(0, depth - 1)
        elif kind == "display":
            display = not display
        elif depth or display or _in_inline_math(text, mark.start()):
            continue
        elif kind == "newline" or (kind == "sentence" and _ends_a_sentence(text, mark.start())):
            yield mark.end()


def _ends_a_sentence(text: str, at: int) -> bool:
    """Whether the mark at `at` ends a sentence, not an abbreviation or the number of a list item."""
    return not _NOT_A_SENTENCE.search(text[max(0, at - 24) : at])


def _in_inline_math(text: str, at: int) -> bool:
    """Whether `at` is inside $...$ on its line; "$5 and $6" is money, not mathematics."""
    line = text[text.rfind("\n", 0, at) + 1 : at].replace("$$", "")
    dollars = re.findall(r"(?<![\\$])\$(?!\$)(?!\d)|(?<=[\w})])\$(?!\w)", line)
    return len(dollars) % 2 == 1
