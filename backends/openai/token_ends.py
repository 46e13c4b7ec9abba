"""Ends of tokens in a text that several of them share. branch_text.py and the tokenizer use it."""

from collections.abc import Sequence

_PARTIAL = "\ufffd"
_MAX_SKIPPED = 4
"""Most characters that a run of tokens without a whole character can spell together."""


def token_ends(text: str, strings: Sequence[str]) -> tuple[int, ...]:
    """Return [tokens] the length of `text` after each token, from the tokens decoded alone.

    A token that is part of a character ends where the character begins, unless it is the last part. A token
    without text (a control token) has no width. What cannot be attributed goes to the last token.
    """
    ends: list[int] = []
    at, in_character = 0, False
    for string in strings:
        whole = string.strip(_PARTIAL)
        uncertain = in_character or string.startswith(_PARTIAL)
        found = _find(text, whole, at, _MAX_SKIPPED if uncertain else 0) if whole else None
        if found is not None:
            if in_character and found > at and not string.startswith(_PARTIAL):
                ends[-1] = found  # the token before completed a character
            at, in_character = found + len(whole), string.endswith(_PARTIAL)
        elif _PARTIAL in string:
            in_character = True
        ends.append(at)
    if ends:
        ends[-1] = len(text)
    return tuple(ends)


def _find(text: str, string: str, at: int, max_skipped: int) -> int | None:
    """Return the start of a token's text, at most `max_skipped` characters after `at`, or None.

    Some tokens lose a leading blank when decoded alone.
    """
    if text.startswith(string, at):
        return at
    if text.startswith(" " + string, at):
        return at + 1
    found = text.find(string, at, at + max_skipped + len(string)) if max_skipped else -1
    return found if found >= 0 else None
