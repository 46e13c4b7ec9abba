"""The places in a text where an answer may stand, in the order in which formats look there.

1. In a box: the last `\\boxed{...}` that is complete and holds something.
2. In a statement: after "the answer is", "**Answer:**", a heading "### Answer", or `####`; the last one first.
3. Alone: as the whole text, or as its last line. Only formats that can tell an answer from a remark look there.
"""

import re
from collections.abc import Iterator

_BRACES = re.compile(
    r"\\(?:boxed|fbox)\s*(?P<box>\{|(?P<bare>-?\d[\d,.]*\d|-?\d|[A-Z])(?![A-Za-z0-9]))|\\.|(?P<open>\{)|(?P<close>\})"
)
# "The final answer to the question is", "**Answer:**", "The correct option is": a colon or a verb follows. "This
# answer is correct" speaks of one that was given before.
_LEAD = re.compile(
    r"(?<!\bthis )(?<!\bthat )(?<!\byour )(?<![A-Za-z])(?:answer|(?:correct|right|best)\s+(?:option|choice))\b[*_]*"
    r"(?:,?\s+(?:to|for|of|in|therefore|thus|then)\b[^.:\n]{0,80}?)?"
    r"(?:\s*[:=]|\s+(?:is|are|(?:would|should|must|will) be|comes (?:out )?to)\b)[*_]*:?",
    re.IGNORECASE,
)
_TITLE = re.compile(r"^[#*_ \t]*(?:the\s+)?(?:(?:final|correct)\s+)?answer[*_: \t]*$", re.IGNORECASE | re.MULTILINE)
_HASHES = re.compile(r"^####(?!#)", re.MULTILINE)
# What may stand between a lead and what it leads to: the next line, in mathematics or in bold, too.
_GAP = re.compile(r"(?:[\s:]|\*\*|__|(?:\\\[|\$\$|```)(?=\s*\n))*")
_LONGEST = 400  # characters of a statement that are read
_MOST_LEADS = 50  # a text that says "the answer is" more often repeats itself


def boxed(text: str) -> str | None:
    """The content of the last complete `\\boxed{...}`, `\\fbox{...}` or `\\boxed 5` that holds any; else None."""
    found: tuple[int, str] | None = None  # where the box opens, and what it holds
    opened: list[int | None] = []  # where the content of each open brace begins; None unless it is a box's
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
    """What each lead leads to, up to the end of the line, the last first; with `hashes`, `####` is a lead, too.

    A lead at the end of its line leads to the next line that holds something.
    """
    ends = [lead.end() for pattern in (_LEAD, _TITLE) for lead in pattern.finditer(text)]
    ends += [lead.end() for lead in _HASHES.finditer(text)] if hashes else []
    for end in sorted(ends, reverse=True)[:_MOST_LEADS]:
        gap = _GAP.match(text, end)
        begin = end if gap is None else gap.end()
        line, _, _ = text[begin : begin + _LONGEST].partition("\n")
        if line.strip():
            yield line.strip()


def last_line(text: str) -> str:
    """The last line that holds anything; "" where it is too long to be an answer alone."""
    line = text.rstrip().rpartition("\n")[2].strip()
    return line if len(line) <= _LONGEST else ""
