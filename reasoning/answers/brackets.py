"""Brackets in LaTeX: splitting a text outside of them, and finding the pair around it."""

import re
from typing import NamedTuple

_TOKEN = re.compile(r"\\begin\{\w+\*?\}|\\end\{\w+\*?\}|\\[A-Za-z]+|\\.|.", re.DOTALL)
_OPENING = {"(", "[", "{", "\\{", "\\langle", "\\lfloor", "\\lceil"}
_CLOSING = {")", "]", "}", "\\}", "\\rangle", "\\rfloor", "\\rceil"}


class Enclosed(NamedTuple):
    """A text in brackets."""

    opening: str
    content: str
    closing: str


def split(text: str, separator: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """Return the parts of a text between separators outside of brackets, and the separators."""
    parts, found = [""], list[str]()
    depth = place = 0
    while place < len(text):
        if depth == 0 and (mark := separator.match(text, place)) and mark.end() > place:
            found.append(mark.group())
            parts.append("")
            place = mark.end()
            continue
        token = _token(text, place)
        depth = max(0, depth + _change(token))
        parts[-1] += token
        place += len(token)
    return parts, found


def enclosed(text: str) -> Enclosed | None:
    """Return the text in the brackets that enclose it as a whole, of any kinds; None if no pair does."""
    text = text.strip()
    opening = _token(text, 0) if text else ""
    place = closing(text, 0) if opening in _OPENING else None
    if place is None or place + len(_token(text, place)) < len(text):
        return None
    return Enclosed(opening, text[len(opening) : place], text[place:])


def closing(text: str, opening: int) -> int | None:
    """Return the position of the bracket that closes the one at `opening`, of any kind; None without one."""
    depth, place = 0, opening
    while place < len(text):
        token = _token(text, place)
        depth += _change(token)
        if depth == 0:
            return place
        place += len(token)
    return None


def _token(text: str, place: int) -> str:
    found = _TOKEN.match(text, place)
    assert found is not None
    return found.group()


def _change(token: str) -> int:
    """Return the change of depth that a token makes."""
    opens = token in _OPENING or token.startswith("\\begin")
    closes = token in _CLOSING or token.startswith("\\end")
    return int(opens) - int(closes)
