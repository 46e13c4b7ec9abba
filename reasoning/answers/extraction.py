"""Extraction of candidate answers from a text. The formats look in these places, in this order:

1. Boxes: the last `\\boxed{...}` that is complete and not empty, or the list that it ends: "\\boxed{1} or \\boxed{2}".
2. A statement: after "the answer is", "**Answer:**", a heading "### Answer", `####` or a key "answer" in JSON, and
   after what other languages say (languages.py); the last one first.
3. The whole text, or its last line. Only formats that can distinguish an answer from a remark look there.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from branchwise.answers.languages import CONJUNCTION, lead_ends

_BRACES = re.compile(
    r"\\(?:boxed|fbox)\s*(?P<box>\{|(?P<bare>-?\d[\d,.]*\d|-?\d|[A-Z])(?![A-Za-z0-9]))|\\.|(?P<open>\{)|(?P<close>\})"
)
# Text between the boxes of one list: "$, $", " or $x=", ", and ".
_SPACE = r"(?:[\s$~&*{}]|\\[()\[\],;:! ]|\\(?:q?quad|text|mbox)\b)*+"
_SEPARATOR = rf"(?:[,;，、]|{CONJUNCTION})"
_NAME = r"[A-Za-z](?:_(?:\w|\{\w+\}))?"
_BETWEEN = re.compile(rf"{_SPACE}{_SEPARATOR}{_SPACE}(?:{_SEPARATOR}{_SPACE})?(?:(?P<name>{_NAME})\s*+=\s*+)?{_SPACE}")
_NAMED = re.compile(rf"(?<![A-Za-z\\])(?P<name>{_NAME})\s*=\s*$")
# The beginning of more of a list, in a truncated text.
_WORD_CUT = r"\b(?:an?|o)\b"
_UNFINISHED = re.compile(
    rf"{_SPACE}(?:{_SEPARATOR}|{_WORD_CUT}){_SPACE}(?:(?:{_SEPARATOR}|{_WORD_CUT}){_SPACE})?"
    rf"(?:{_NAME})?\s*+=?{_SPACE}(?:\\[a-z]*(?:\s*\{{.*)?)?",
    re.DOTALL,
)
_FOLLOWED_BY_NOTHING = re.compile(_SPACE)
_MAX_NAME = 12  # characters searched for a name before a box

_HASHES = re.compile(r"^####(?!#)", re.MULTILINE)
_KEY = re.compile(r"""(["'])(?:[a-z]+[_ ])*answer\1\s*:\s*""", re.IGNORECASE)
_VALUE = re.compile(r"'([^'\n]*)'|(['\"][^\n]*|[^\n,}\]]*)")  # of a key in JSON-like text
_DECODER = json.JSONDecoder()
# Text between a lead and its statement: white space with line breaks, bold marks, a bullet, an opening of display
# mathematics or of a block.
_GAP = re.compile(r"(?:[\s:：,、，→⇒]|(?<=\n)[-•][ \t]+|\*\*|__|(?:\\\[|\$\$|```\w*)(?=\s*\n))*")
_MAX_LENGTH = 400  # characters read of a statement
_MAX_LEADS = 50  # a text with more of them repeats itself


class _Box(NamedTuple):
    """A box: the positions of its first character and after its last one, and the content."""

    start: int
    end: int
    content: str


def boxed(text: str) -> str | None:
    """Return the content of the last complete, nonempty `\\boxed{...}`, `\\fbox{...}` or `\\boxed 5`; else None.

    Boxes joined by commas, "and" or "or" are a list: "3, 5" for "\\boxed{3} and \\boxed{5}". Different names in front
    of them are kept: "x=1, y=2".
    """
    boxes = _last_boxes(text)
    if not boxes:
        return None
    if len(boxes) == 1:
        return boxes[0].content
    named = [_NAMED.search(text, max(0, box.start - _MAX_NAME), box.start) for box in boxes]
    names = ["" if found is None else found["name"] for found in named]
    keep = len(set(names)) > 1 and "" not in names
    return ", ".join(
        dict.fromkeys(f"{name}={box.content}" if keep else box.content for name, box in zip(names, boxes, strict=True))
    )


def list_is_unfinished(text: str) -> bool:
    """Return True if another box may continue the last box or boxes of a truncated text."""
    boxes = _last_boxes(text)
    if not boxes:
        return False
    return _UNFINISHED.fullmatch(text, boxes[-1].end) is not None or (
        len(boxes) > 1 and _FOLLOWED_BY_NOTHING.fullmatch(text, boxes[-1].end) is not None
    )


def _last_boxes(text: str) -> Sequence[_Box]:
    """Return the last box, and those before it that are joined to it; the inner box if they are nested."""
    found: list[_Box] = []
    opened: list[tuple[int, int] | None] = []  # start of box and content for each open brace; None if it is no box's
    for mark in _BRACES.finditer(text):
        if mark.group("bare"):
            found.append(_Box(mark.start(), mark.end(), mark.group("bare")))
        elif mark.group("box"):
            opened.append((mark.start(), mark.end()))
        elif mark.group("open"):
            opened.append(None)
        elif mark.group("close") and opened and (begin := opened.pop()) is not None:
            content = text[begin[1] : mark.start()].strip()
            if content and (not found or begin[1] > found[-1].start):
                found.append(_Box(begin[0], mark.end(), content))
    first = len(found) - 1
    while first > 0 and _BETWEEN.fullmatch(text, found[first - 1].end, found[first].start):
        first -= 1
    return found[max(first, 0) :]


def statements(text: str, *, hashes: bool = False) -> Iterator[str]:
    """Yield the text after each lead up to the end of the line, the last lead first.

    With `hashes`, `####` is a lead, too. If the lead ends its line, the next nonempty line is the statement.
    """
    ends = dict.fromkeys(lead_ends(text), False)  # position -> True if a JSON value follows
    ends |= {lead.end(): False for lead in _HASHES.finditer(text)} if hashes else {}
    ends |= {key.end(): True for key in _KEY.finditer(text)}
    for end in sorted(ends, reverse=True)[:_MAX_LEADS]:
        statement = _json_value(text, end) if ends[end] else _line(text, end)
        if statement:
            yield statement


def _line(text: str, end: int) -> str:
    """Return the rest of the line after a lead, or the next nonempty line."""
    gap = _GAP.match(text, end)
    begin = end if gap is None else gap.end()
    return text[begin : begin + _MAX_LENGTH].partition("\n")[0].strip()


def _json_value(text: str, begin: int) -> str:
    """Return the value after a key, a string without its quotes; "" for null and objects."""
    try:
        value, length = _DECODER.raw_decode(text[begin : begin + _MAX_LENGTH])
    except (json.JSONDecodeError, RecursionError):
        found = _VALUE.match(text, begin, begin + _MAX_LENGTH)
        return "" if found is None else (found[1] or found[2] or "").strip()
    if value is None or isinstance(value, dict):
        return ""
    return value.strip() if isinstance(value, str) else text[begin : begin + length]


def last_line(text: str) -> str:
    """Return the last nonempty line; "" if it is too long to be only an answer."""
    line = text.rstrip().rpartition("\n")[2].strip()
    return line if len(line) <= _MAX_LENGTH else ""
