"""Segmentation of a path into reasoning steps, which end after a line or a sentence, at a token boundary.

A step never ends inside a number, a LaTeX group, inline mathematics or code, or a code fence, because a model
cannot continue well from there. A heading ("Step 1.", "## Solution") belongs to the step that follows it. A group
that is never closed ends with its paragraph; an unclosed code fence ends with the text.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from branchwise.core.path import Path

# Marks that may end a step (a newline, or sentence punctuation before white space), and marks that open or
# close a region in which no step ends.
_MARKS = re.compile(
    r"(?P<fence>^[ \t]*(?:(?:[-*+]|\d{1,3}[.)])[ \t]+)?```(?=[^`\n]*$))"
    r"|(?P<escaped>\\[\\${}])"
    r"|(?P<title>^[ \t]*#{1,6}[ \t][^\n]*)"
    r"|(?P<open>\\\(|\\\[|\\begin\{[^}\n]{0,40}\}|\{)"
    r"|(?P<close>\\\)|\\\]|\\end\{[^}\n]{0,40}\}|\})"
    r"|(?P<display>\$\$)"
    r"|(?P<newline>\n(?:\s*\n)?)"  # the indentation belongs to the next line
    r"|(?P<sentence>(?P<point>[.!?])[\"')\]*_]*(?=[ \t]))",
    re.MULTILINE,
)
# Periods that end no sentence, recognized by the text before and after them.
_ABBREVIATION = re.compile(
    r"(?:^|\n)\s*\(?(?:\d+|[A-Za-z])$"  # "1. " opens a list item
    r"|\b(?:Mr|Mrs|Ms|Dr|Prof|St|vs|cf|[Ee]\.g|[Ii]\.e|etc|approx|Fig|Eq|[A-Z])$"
)
_MID_SENTENCE = re.compile(r"\b(?:[ap]\.m|lbs?|oz|ft|hrs?|mins?)$")  # these end a sentence only before a capital letter
_NUMBERED = re.compile(r"\b(?:No|Nos|pp?)$")  # "No. 5", where "No. It is" is a sentence
_CONTEXT = 24  # characters around a period; longer than any abbreviation
# Beginning of a step: a heading, "Step 1:", "**Case 2.**", "3.", "(a)", a bold line that is not a sentence, or
# marks alone ("---").
_HEADING = re.compile(
    r"#{1,6}\s[^\n]*"
    r"|[*_]*(?:step|part|case)\s+\(?\w{1,3}[.:)]{0,2}[*_]*[.:]?"
    r"|[*_]*(?:\(?\d{1,3}[.:)]|\(?[a-z]\))[.:]?[*_]*[.:]?"
    r"|\*\*[^*\n]+(?:[^*\n.!?]\*\*:?|:\*\*)"
    r"|[\W_]*",
    re.IGNORECASE,
)
# Beginning of a numbered step.
_NUMBER = re.compile(r"[ \t*#_]*(?:step\b|\(?\d{1,3}[.)])", re.IGNORECASE)
_UNFINISHED = re.compile(r"(?:\d[.,]?|\\[A-Za-z]*)\Z")  # may continue as 3.14 or as a LaTeX command
_OPENS_INLINE = re.compile(r"\$(?=[A-Za-z\\({\-]|\Z)|`")  # "$5" may be money or mathematics
_INLINE = re.compile(r"\n|\\.|\$\$|(?P<code>(?<!`)(?P<ticks>`{1,3})[^`\n]+(?P=ticks))|(?P<dollar>\$)")


StepKind = Literal["line", "paragraph", "sentence", "numbered"]
"""A step ends with a line, at a blank line, with a sentence or line, or before a line that starts with a number."""

STEP_STOPS: Mapping[StepKind, tuple[str, ...]] = {
    "line": ("\n",),
    "paragraph": ("\n\n",),
    "sentence": (". ", "! ", "? ", "\n"),
    "numbered": ("\nStep", "\n**Step", "\n#", *(f"\n{number}{mark}" for number in range(1, 31) for mark in ".)")),
}
"""Stop strings for each kind of step. Not each occurrence ends a step. A step that ends without one of them (after
`."`, or before an indented " 7)") is found at the next occurrence."""


class Span(NamedTuple):
    """Character range from `start` up to, but not including, `end`."""

    start: int
    end: int


def step_ends(path: Path) -> tuple[int, ...]:
    """Return the numbers of generated tokens at which the path's steps end; the last is the whole length.

    `path.cut(n)` with one of them is the path up to that step. White space or a heading alone is not a step.
    """
    if path.generated == 0:
        return ()
    text = path.answer_text  # without the stop string, which is not a step
    start = len(path.opening)
    last = len(text.rstrip())
    ends = path.token_ends()
    counts: list[int] = []
    token, previous, has_content = 0, start, False
    for end in _boundaries(text):
        if end <= start or end >= last:
            continue
        has_content = has_content or not _HEADING.fullmatch(text[previous:end].strip())
        previous = end
        while token < len(ends) and ends[token] < end:
            token += 1
        count = _tokens_up_to(text, end, ends, token)
        if has_content and count > (counts[-1] if counts else 0):
            counts.append(count)
            has_content = False
    if not counts or counts[-1] < path.generated:
        counts.append(path.generated)
    return tuple(counts)


def first_step(path: Path, start: int, kind: StepKind) -> int | None:
    """Return the number of generated tokens up to the end of the first step after `start` characters.

    None if no step is complete yet, or if no token ends where the step ends.
    """
    text, ends = path.whole_text, path.token_ends()
    token, previous, has_content = 0, start, False
    for end in _boundaries(text, kind):
        if end <= start or _is_inline_open(text, end):
            continue
        has_content = has_content or not _HEADING.fullmatch(text[previous:end].strip())
        previous = end
        while token < len(ends) and ends[token] < end:
            token += 1
        count = _tokens_up_to(text, end, ends, token)
        if has_content and count and ends[count - 1] > start:
            return count
    return None


def last_cut(path: Path, start: int) -> int | None:
    """Return the largest number of generated tokens after which the path can be cut, beyond `start` characters.

    A cut is possible where the text ends outside numbers, groups, inline spans and code fences. None if there is no
    such place.
    """
    text, ends = path.whole_text, path.token_ends()
    for count in range(len(ends), 0, -1):
        end, previous = ends[count - 1], ends[count - 2] if count > 1 else 0
        if end <= start:
            return None
        if end > previous and _can_cut_after(text[:end]):  # a token without text ends inside a character
            return count
    return None


def _can_cut_after(text: str) -> bool:
    """Return True if the text ends outside numbers, LaTeX groups, inline mathematics or code, and code fences."""
    if _UNFINISHED.search(text) or _is_inline_open(text, len(text)):
        return False
    return any(end > len(text) for end in _boundaries(f"{text}x\n"))  # True if a line could end after the text


def _is_inline_open(text: str, end: int) -> bool:
    """Return True if inline mathematics or code opened in the line before `end` may close after the text."""
    if "\n" in text[end - 1 :]:
        return False
    line = text.rfind("\n", 0, end) + 1
    spans = list(_inline_spans(text[line:]))
    return any(
        text[mark.start() - 1 : mark.start()] != "\\"
        and not any(span.start <= mark.start() - line < span.end for span in spans)
        for mark in _OPENS_INLINE.finditer(text, line, end)
    )


def _tokens_up_to(text: str, end: int, ends: tuple[int, ...], token: int) -> int:
    """Return the number of tokens up to position `end`, which token `token` reaches; 0 if no token boundary fits.

    The cut follows the token that ends the step. If that token continues into the next step, the cut precedes it,
    provided that only white space is lost.
    """
    if token < len(ends) and not text[end : ends[token]].strip():
        return token + 1
    return token if token and not text[ends[token - 1] : end].strip() else 0


def _boundaries(text: str, steps: StepKind = "sentence") -> Iterator[int]:
    """Yield the character positions at which steps end, in order."""
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
            if mark.group().count("\n") > 1:  # mathematics cannot contain a blank line, so it was never closed
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
    """Return True if a step ends at this line break."""
    if steps == "paragraph":
        return mark.group().count("\n") > 1
    return steps != "numbered" or _NUMBER.match(text, mark.end()) is not None


def _ends_a_sentence(text: str, mark: re.Match[str]) -> bool:
    """Return True if a mark ends a sentence rather than an abbreviation, a list number, "..." or a factorial."""
    before = text[max(0, mark.start() - _CONTEXT) : mark.start()]
    after = text[mark.end() : mark.end() + _CONTEXT].lstrip()
    if mark.group("point") == "!" and re.search(r"(?:\d|\b[a-z]|\))$", before):
        return after[:1].isupper()
    if before.endswith(".") or _MID_SENTENCE.search(before):
        return after[:1].isupper()
    return not _ABBREVIATION.search(before) and not (after[:1].isdigit() and _NUMBERED.search(before))


def _inline_spans(text: str) -> Iterator[Span]:
    """Yield `$...$` and `` `...` `` within a line, in order; "$5 and $6" is money.

    A dollar sign opens before a character other than a space. It closes after one, and not before a digit (as in
    Pandoc's tex_math_dollars). `$ x $`, with a space on both sides, is mathematics, too. An opening parenthesis or
    a bold mark before a dollar sign counts as a space.
    """
    opened = -1  # position of an unmatched opening dollar sign
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
