"""Where the steps of a reasoning path end: after a line or a sentence, at a token boundary.

Never inside a number, a LaTeX group, inline mathematics or code, or a code fence: a prefix cut there would
ask the model to go on from the middle of a thing. A heading ("Step 1.", "## Solution") is part of the step
it opens. What a path leaves open ends with its paragraph, a code fence with its last line.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from branchwise.core.path import Path

# What may end a step (a newline, or sentence punctuation before white space), and what opens or
# closes a region in which nothing ends one.
_MARKS = re.compile(
    r"(?P<fence>^[ \t]*(?:(?:[-*+]|\d{1,3}[.)])[ \t]+)?```(?=[^`\n]*$))"
    r"|(?P<escaped>\\[\\${}])"
    r"|(?P<title>^[ \t]*#{1,6}[ \t][^\n]*)"
    r"|(?P<open>\\\(|\\\[|\\begin\{[^}\n]{0,40}\}|\{)"
    r"|(?P<close>\\\)|\\\]|\\end\{[^}\n]{0,40}\}|\})"
    r"|(?P<display>\$\$)"
    r"|(?P<newline>\n(?:\s*\n)?)"  # the next line's indentation is its own
    r"|(?P<sentence>(?P<point>[.!?])[\"')\]*_]*(?=[ \t]))",
    re.MULTILINE,
)
# Points that end no sentence, by the text up to them and the text after them.
_ABBREVIATION = re.compile(
    r"(?:^|\n)\s*\(?(?:\d+|[A-Za-z])$"  # "1. " opens a list item
    r"|\b(?:Mr|Mrs|Ms|Dr|Prof|St|vs|cf|[Ee]\.g|[Ii]\.e|etc|approx|Fig|Eq|[A-Z])$"
)
_MID_SENTENCE = re.compile(r"\b(?:[ap]\.m|lbs?|oz|ft|hrs?|mins?)$")  # these end one before a capital letter only
_NUMBERED = re.compile(r"\b(?:No|Nos|pp?)$")  # "No. 5", where "No. It is" is a sentence
_LOOK_BACK = 24  # characters, more than any abbreviation is long
# What opens a step: a heading, "Step 1:", "**Case 2.**", "3.", "(a)", a bold line that is no sentence, or marks
# alone ("---").
_HEADING = re.compile(
    r"#{1,6}\s[^\n]*"
    r"|[*_]*(?:step|part|case)\s+\(?\w{1,3}[.:)]{0,2}[*_]*[.:]?"
    r"|[*_]*(?:\(?\d{1,3}[.:)]|\(?[a-z]\))[.:]?[*_]*[.:]?"
    r"|\*\*[^*\n]+(?:[^*\n.!?]\*\*:?|:\*\*)"
    r"|[\W_]*",
    re.IGNORECASE,
)
# What a numbered step begins with.
_NUMBER = re.compile(r"[ \t*#_]*(?:step\b|\(?\d{1,3}[.)])", re.IGNORECASE)
_CUT = re.compile(r"(?:\d[.,]?|\\[A-Za-z]*)\Z")  # what may go on as 3.14 or as a LaTeX command
_OPENS_INLINE = re.compile(r"\$(?=[A-Za-z\\({\-]|\Z)|`")  # "$5" is money until it turns out not to be
_INLINE = re.compile(r"\n|\\.|\$\$|(?P<code>(?<!`)(?P<ticks>`{1,3})[^`\n]+(?P=ticks))|(?P<dollar>\$)")


StepKind = Literal["line", "paragraph", "sentence", "numbered"]
"""Where steps end: with a line, at a blank line, with a sentence or a line, before a line that opens with a number."""

STEP_STOPS: Mapping[StepKind, tuple[str, ...]] = {
    "line": ("\n",),
    "paragraph": ("\n\n",),
    "sentence": (". ", "! ", "? ", "\n"),
    "numbered": ("\nStep", "\n**Step", "\n#", *(f"\n{number}{mark}" for number in range(1, 31) for mark in ".)")),
}
"""Strings one of which stands where such a step ends; not every one of them ends a step, and where a step ends in
another way (after `."`, at " 7)" that is indented) it is found at the next of them."""


class Span(NamedTuple):
    """Character positions from `start` up to `end`."""

    start: int
    end: int


def step_ends(path: Path) -> tuple[int, ...]:
    """Token counts from the prompt on at which the path's steps end; the last is its whole length.

    `path.cut(n)` for one of them is the path up to that step. White space or a heading alone is no step.
    """
    if path.generated == 0:
        return ()
    text = path.answer_text  # a stop string is no step
    begun = len(path.opening)
    last = len(text.rstrip())
    ends = path.token_ends()
    counts: list[int] = []
    at, before, said = 0, begun, False
    for end in _boundaries(text):
        if end <= begun or end >= last:
            continue
        said = said or not _HEADING.fullmatch(text[before:end].strip())
        before = end
        while at < len(ends) and ends[at] < end:
            at += 1
        count = _tokens_up_to(text, end, ends, at)
        if said and count > (counts[-1] if counts else 0):
            counts.append(count)
            said = False
    if not counts or counts[-1] < path.generated:
        counts.append(path.generated)
    return tuple(counts)


def first_step(path: Path, begun: int, kind: StepKind) -> int | None:
    """The token count, from the prompt on, at which the first step after `begun` characters of the text is complete.

    None where no step is complete yet, or no token ends where it does.
    """
    text, ends = path.whole_text, path.token_ends()
    at, before, said = 0, begun, False
    for end in _boundaries(text, kind):
        if end <= begun or _may_be_inline(text, end):
            continue
        said = said or not _HEADING.fullmatch(text[before:end].strip())
        before = end
        while at < len(ends) and ends[at] < end:
            at += 1
        count = _tokens_up_to(text, end, ends, at)
        if said and count and ends[count - 1] > begun:
            return count
    return None


def last_whole(path: Path, begun: int) -> int | None:
    """Most tokens, from the prompt on, whose text ends inside nothing and after `begun` characters, if any."""
    text, ends = path.whole_text, path.token_ends()
    for count in range(len(ends), 0, -1):
        end, before = ends[count - 1], ends[count - 2] if count > 1 else 0
        if end <= begun:
            return None
        if end > before and _is_whole(text[:end]):  # a token without text ends inside a character
            return count
    return None


def _is_whole(text: str) -> bool:
    """Whether a text that may go on ends in no number, LaTeX group, inline mathematics or code, or code fence."""
    if _CUT.search(text) or _may_be_inline(text, len(text)):
        return False
    return any(end > len(text) for end in _boundaries(f"{text}x\n"))  # whatever comes, were it to end the line


def _may_be_inline(text: str, end: int) -> bool:
    """Whether mathematics or code that opened in the line before `end` may yet close in what follows the text."""
    if "\n" in text[end - 1 :]:
        return False
    line = text.rfind("\n", 0, end) + 1
    spans = list(_inline_spans(text[line:]))
    return any(
        text[mark.start() - 1 : mark.start()] != "\\"
        and not any(span.start <= mark.start() - line < span.end for span in spans)
        for mark in _OPENS_INLINE.finditer(text, line, end)
    )


def _tokens_up_to(text: str, end: int, ends: tuple[int, ...], at: int) -> int:
    """How many tokens make the text up to `end`, where token `at` reaches it; 0 where none do.

    The cut is after the token that ends the step. Where that token runs on into the next one, it is
    before it, if only white space is lost.
    """
    if at < len(ends) and not text[end : ends[at]].strip():
        return at + 1
    return at if at and not text[ends[at - 1] : end].strip() else 0


def _boundaries(text: str, steps: StepKind = "sentence") -> Iterator[int]:
    """Character positions after which a step ends, in order."""
    inline = _inline_spans(text)
    span = next(inline, None)
    depth, fenced, display = 0, False, False
    for mark in _MARKS.finditer(text):
        kind = mark.lastgroup
        while span is not None and span.end <= mark.start():
            span = next(inline, None)
        if kind == "fence":
            fenced = not fenced
        elif fenced or (span is not None and span.start <= mark.start()):
            continue
        elif kind == "newline":
            if mark.group().count("\n") > 1:  # no mathematics runs over a blank line: it was never closed
                depth, display = 0, False
            if not depth and not display and _ends_a_line(text, mark, steps):
                yield mark.end()
        elif kind == "open":
            depth += 1
        elif kind == "close":
            depth = max(0, depth - 1)
        elif kind == "display":
            display = not display
        elif steps == "sentence" == kind and not depth and not display and _ends_a_sentence(text, mark):
            yield mark.end()


def _ends_a_line(text: str, mark: re.Match[str], steps: StepKind) -> bool:
    """Whether a step ends with a line break."""
    if steps == "paragraph":
        return mark.group().count("\n") > 1
    return steps != "numbered" or _NUMBER.match(text, mark.end()) is not None


def _ends_a_sentence(text: str, mark: re.Match[str]) -> bool:
    """Whether a mark ends a sentence, not an abbreviation, a list item's number, "..." or a factorial."""
    at = mark.start()
    before, after = text[max(0, at - _LOOK_BACK) : at], text[mark.end() : mark.end() + _LOOK_BACK].lstrip()
    if mark.group("point") == "!" and re.search(r"(?:\d|\b[a-z]|\))$", before):
        return after[:1].isupper()
    if before.endswith(".") or _MID_SENTENCE.search(before):
        return after[:1].isupper()
    return not _ABBREVIATION.search(before) and not (after[:1].isdigit() and _NUMBERED.search(before))


def _inline_spans(text: str) -> Iterator[Span]:
    """`$...$` and `` `...` `` within a line, in order; "$5 and $6" is money.

    A dollar opens before what is no space, and closes after what is none and before no digit (as in
    Pandoc's tex_math_dollars); `$ x $`, with a space on both sides, is mathematics too. An opening
    parenthesis or bold mark before a dollar is like a space.
    """
    opened = -1  # where the dollar stands that waits for its partner
    for mark in _INLINE.finditer(text):
        at = mark.start()
        if mark.group("code"):
            yield Span(at, mark.end())
        elif mark.group("dollar"):
            before, after = text[max(0, at - 2) : at], text[at + 1 : at + 2]
            spaced_before = before[-1:].isspace() or before.endswith(("(", "**"))
            spaced = opened >= 0 and text[opened + 1].isspace()
            if opened >= 0 and spaced == spaced_before and not after.isdigit():
                yield Span(opened, at + 1)
                opened = -1
            else:
                opened = at
        elif text[at] == "\n":
            opened = -1
