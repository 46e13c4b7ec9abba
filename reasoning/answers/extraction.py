"""Extraction of candidate answers from a text. The formats look in these places, in this order:

1. A box: the last `\\boxed{...}` that is complete and not empty.
2. A statement: after "the answer is", "**Answer:**", a heading "### Answer", or `####`; the last one first.
3. The whole text, or its last line. Only formats that can distinguish an answer from a remark look there.
"""

import re
from collections.abc import Iterator

_BRACES = re.compile(
    r"\\(?:boxed|fbox)\s*(?P<box>\{|(?P<bare>-?\d[\d,.]*\d|-?\d|[A-Z])(?![A-Za-z0-9]))|\\.|(?P<open>\{)|(?P<close>\})"
)
# "The final answer to the question is", "**Answer:**", "The correct option is": a colon or a verb follows. "This
# answer is correct" refers to an earlier answer, so it does not match.
_LEAD = re.compile(
    r"(?<!\bthis )(?<!\bthat )(?<!\byour )(?<![A-Za-z])(?:answer|(?:correct|right|best)\s+(?:option|choice))\b[*_]*"
    r"(?:,?\s+(?:to|for|of|in|therefore|thus|then)\b[^.:\n]{0,80}?)?"
    r"(?:\s*[:=]|\s+(?:is|are|(?:would|should|must|will) be|comes (?:out )?to)\b)[*_]*:?",
    re.IGNORECASE,
)
_TITLE = re.compile(r"^[#*_ \t]*(?:the\s+)?(?:(?:final|correct)\s+)?answer[*_: \t]*$", re.IGNORECASE | re.MULTILINE)
_HASHES = re.compile(r"^####(?!#)", re.MULTILINE)
# Text between a lead and its statement: white space with line breaks, bold marks, an opening of display mathematics.
_GAP = re.compile(r"(?:[\s:]|\*\*|__|(?:\\\[|\$\$|```)(?=\s*\n))*")
_MAX_LENGTH = 400  # characters read of a statement
_MAX_LEADS = 50  # a text with more of them repeats itself


def boxed(text: str) -> str | None:
    """Return the content of the last complete, nonempty `\\boxed{...}`, `\\fbox{...}` or `\\boxed 5`; else None."""
    found: tuple[int, str] | None = None  # start and content of the box
    opened: list[int | None] = []  # start of the content for each open brace; None if the brace is not a box's
    for mark in _BRACES.finditer(text):
        if mark.group("bare"):
            found = mark.start(), mark.group("bare")
        elif mark.group("box"):
            opened.append(mark.end())
        elif mark.group("open"):
            opened.append(None)
        elif mark.group("close") and opened and (begin := opened.pop()) is not None:
            content = text[begin : mark.start()].strip()
            if content and (found is None or begin > found[0]):
                found = begin, content
    return None if found is None else found[1]


def statements(text: str, *, hashes: bool = False) -> Iterator[str]:
    """Yield the text after each lead up to the end of the line, the last lead first.

    With `hashes`, `####` is a lead, too. If the lead ends its line, the next nonempty line is the statement.
    """
    ends = [lead.end() for pattern in (_LEAD, _TITLE) for lead in pattern.finditer(text)]
    ends += [lead.end() for lead in _HASHES.finditer(text)] if hashes else []
    for end in sorted(ends, reverse=True)[:_MAX_LEADS]:
        gap = _GAP.match(text, end)
        begin = end if gap is None else gap.end()
        line, _, _ = text[begin : begin + _MAX_LENGTH].partition("\n")
        if line.strip():
            yield line.strip()


def last_line(text: str) -> str:
    """Return the last nonempty line; "" if it is too long to be only an answer."""
    line = text.rstrip().rpartition("\n")[2].strip()
    return line if len(line) <= _MAX_LENGTH else ""
