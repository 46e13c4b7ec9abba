"""The scripted backend's vocabulary: words, punctuation marks and line breaks are its tokens."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

_PIECE = re.compile(r"\n|[^\S\n]*[^\s\w]|[^\S\n]*\w+|[^\S\n]+(?=\n|$)")


class Vocabulary:
    """Gives every piece of text its token, in order of appearance."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._pieces: list[str] = []

    def tokens(self, text: str) -> tuple[int, ...]:
        return tuple(self._id(piece) for piece in _PIECE.findall(text))

    def spell(self, tokens: Sequence[int]) -> str:
        return "".join(self._pieces[token] for token in tokens)

    def ends(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """[tokens] the length of the text after each."""
        ends, at = [], 0
        for token in tokens:
            at += len(self._pieces[token])
            ends.append(at)
        return tuple(ends)

    def _id(self, piece: str) -> int:
        if piece not in self._ids:
            self._ids[piece] = len(self._pieces)
            self._pieces.append(piece)
        return self._ids[piece]


@dataclass(slots=True)
class Held:
    """A tree of the tokens seen so far."""

    children: dict[int, "Held"] = field(default_factory=dict)

    def hold(self, tokens: Sequence[int], block: int) -> int:
        """Remember `tokens`; how many of the first were known, in whole blocks (0: nothing is kept)."""
        node, known = self, 0
        for token in tokens:
            if token in node.children:
                known += 1
            node = node.children.setdefault(token, Held())
        return known // block * block if block else 0
