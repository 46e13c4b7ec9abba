"""Where tokens end in a text that several of them came with."""

from collections.abc import Sequence

_PARTIAL = "\ufffd"
_WIDEST = 4  # characters that tokens without a whole character may have made together


def token_ends(text: str, strings: Sequence[str]) -> tuple[int, ...]:
    """[tokens] the length of `text` once each token is read, from what each spells by itself.

    A token that is a part of a character ends where the character begins, unless it is the last part. What spells
    nothing in the text (a control token) has no width, and what can't be told apart goes to the last token.
    """
    ends: list[int] = []
    at, waiting = 0, False
    for string in strings:
        whole = string.strip(_PARTIAL)
        unsure = waiting or string.startswith(_PARTIAL)
        found = _find(text, whole, at, _WIDEST if unsure else 0) if whole else None
        if found is not None:
            if waiting and found > at and not string.startswith(_PARTIAL):
                ends[-1] = found  # the token before completed a character
            at, waiting = found + len(whole), string.endswith(_PARTIAL)
        elif _PARTIAL in string:
            waiting = True
        ends.append(at)
    if ends:
        ends[-1] = len(text)
    return tuple(ends)


def _find(text: str, string: str, at: int, slack: int) -> int | None:
    """Where a token's text begins; at most `slack` characters further on. Decoded alone, some lose a leading blank."""
    if text.startswith(string, at):
        return at
    if text.startswith(" " + string, at):
        return at + 1
    found = text.find(string, at, at + slack + len(string)) if slack else -1
    return found if found >= 0 else None
