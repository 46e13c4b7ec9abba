"""Vocabulary and prefix cache of the scripted backend. Words, punctuation marks and line breaks are its tokens."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

_TOKEN = re.compile(r"\n|[^\S\n]*[^\s\w]|[^\S\n]*\w+|[^\S\n]+(?=\n|$)")


class Vocabulary:
    """Tokenizer that numbers tokens in order of appearance."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._strings: list[str] = []

    def tokens(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text."""
        return tuple(self._id(string) for string in _TOKEN.findall(text))

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens."""
        return "".join(self._strings[token] for token in tokens)

    def ends(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """Return [tokens] the length of the text after each token."""
        ends, at = [], 0
        for token in tokens:
            at += len(self._strings[token])
            ends.append(at)
        return tuple(ends)

    def _id(self, string: str) -> int:
        if string not in self._ids:
            self._ids[string] = len(self._strings)
            self._strings.append(string)
        return self._ids[string]


@dataclass(slots=True)
class PrefixTree:
    """Tree of all tokens seen so far: a prefix cache that never evicts."""

    children: dict[int, "PrefixTree"] = field(default_factory=dict)

    def insert(self, tokens: Sequence[int], block: int) -> int:
        """Insert `tokens`. Return the length of the known prefix in whole blocks; 0 for a block size of 0."""
        node, known = self, 0
        for token in tokens:
            if token in node.children:
                known += 1
            node = node.children.setdefault(token, PrefixTree())
        return known // block * block if block else 0
