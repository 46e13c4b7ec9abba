"""Watching a branch: its new tokens in pieces of an exact size, whatever size the backend delivers."""

from collections.abc import Iterator
from typing import NamedTuple

from branchwise.backends.stream import Tokens
from branchwise.core.path import TopLogprob


class Piece(NamedTuple):
    """New tokens of a branch, up to its `until`-th. Rows the backend does not report are empty."""

    until: int
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    top_logprobs: tuple[tuple[TopLogprob, ...], ...]


class Watch:
    """Collects what one branch grows, and hands it out `every` tokens at a time."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._count = 0
        self._told = 0
        self._token_ids: list[int] = []
        self._logprobs: list[float] = []
        self._top: list[tuple[TopLogprob, ...]] = []

    def add(self, event: Tokens) -> None:
        self._count += event.count
        self._token_ids.extend(event.token_ids)
        self._logprobs.extend(event.logprobs or ())
        self._top.extend(event.top_logprobs or ())

    def drop(self, tokens: int) -> None:
        """The last tokens will come again; those already handed out are not handed out twice."""
        self._count -= tokens
        for row in (self._token_ids, self._logprobs, self._top):
            del row[self._count :]

    def pieces(self) -> Iterator[Piece]:
        """Every piece that is complete and was not handed out."""
        while self._count - self._told >= self._every:
            start, self._told = self._told, self._told + self._every
            new = slice(start, self._told)
            yield Piece(self._told, tuple(self._token_ids[new]), tuple(self._logprobs[new]), tuple(self._top[new]))
