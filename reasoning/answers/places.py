"""Where in a text the answer stands: in a box, after "the answer is", under a heading, after `####`."""

import re
from typing import NamedTuple

_BOX = re.compile(r"\\f?boxed\s*(?:\{|(?P<bare>[A-Za-z0-9]+))")
# "The final answer to the question is", "**Answer:**", "The correct option is", "### Answer", "####"
_LEAD = re.compile(
    r"(?:\banswer\b|\b(?:correct|right|best)\s+(?:option|choice)\b)[*_]*"
    r"(?:\s+(?:to|for|of)\b[^.:\n]{0,80}?)?"
    r"(?:\s*(?:\bis\b|\bare\b|\b(?:would|should|must) be\b|[:=])[*_:\s]*?(?=[^\s:*_]|\*\*|$)|[ \t*_:]*(?=\n|$))"
    r"|(?:^|\n)####(?!#)",
    re.IGNORECASE,
)


class Statement(NamedTuple):
    """What follows a lead such as "the answer is", to the end of its line."""

    text: str
    open: bool
    """Whether the text was cut here: the last word of it may be the start of a longer one."""


def boxed(text: str) -> str | None:
    """The content of the last complete `\\boxed{...}` (or `\\fbox`) that has any; None without one."""
    found = None
    for match in _BOX.finditer(text):
        if match.group("bare"):
            found = match.group("bare")
            continue
        depth = 1
        for at in range(match.end(), len(text)):
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            if depth == 0:
                found = text[match.end() : at].strip() or found
                break
    return found


def stated(text: str, complete: bool) -> Statement | None:
    """What the last lead leads to; None where nothing does. A lead at the end of its line leads to the next one."""
    for match in reversed(list(_LEAD.finditer(text))):
        start = match.end()
        gap = re.match(r"[\s*_:]*", text[start:])
        line = start if gap is None or "\n" not in gap.group() else start + gap.end()
        end = text.find("\n", line)
        words = text[line : len(text) if end < 0 else end].strip()
        if words.strip("*_: "):
            return Statement(words, open=end < 0 and not complete)
    return None
