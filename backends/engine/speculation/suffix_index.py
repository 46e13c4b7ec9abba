"""Suffix index: finds where the latest tokens of a branch occurred before, and what followed them there."""

from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import NamedTuple

_MAX_OCCURRENCES = 32  # the latest ones: frequent tokens occur everywhere


@dataclass(slots=True, eq=False)
class TokenSequence:
    """A sequence of an index, which grows at its end."""

    tokens: "array[int]" = field(default_factory=lambda: array("q"))
    evicted: bool = False  # then nothing is appended to it


class Occurrence(NamedTuple):
    """A place where a context occurred: the `end` first tokens of the sequence end with it."""

    sequence: TokenSequence
    end: int

    @property
    def next_token(self) -> int | None:
        """The token that followed, or None at the end of the sequence."""
        tokens = self.sequence.tokens
        return tokens[self.end] if self.end < len(tokens) else None


class Match(NamedTuple):
    """The occurrences of a branch's latest `length` tokens."""

    length: int
    occurrences: Sequence[Occurrence]


class SuffixIndex:
    """Sequences of at most `capacity` tokens in all, by their contexts of one and two tokens. Not thread-safe."""

    def __init__(self, capacity: int) -> None:
        """Index at most `capacity` tokens; the oldest sequences are evicted first."""
        self._capacity = capacity
        self._size = 0
        self._sequences: deque[TokenSequence] = deque()
        self._occurrences: dict[tuple[int, ...], list[Occurrence]] = {}  # by context of one token and of two

    def __len__(self) -> int:
        """Return the number of indexed tokens."""
        return self._size

    def clear(self) -> None:
        """Evict every sequence."""
        for sequence in self._sequences:
            sequence.evicted = True
        self._sequences.clear()
        self._occurrences.clear()
        self._size = 0

    def begin(self) -> TokenSequence:
        """Return a new, empty sequence."""
        sequence = TokenSequence()
        self._sequences.append(sequence)
        return sequence

    def extend(self, sequence: TokenSequence, tokens: Sequence[int]) -> None:
        """Append tokens to a sequence, unless it was evicted."""
        if sequence.evicted:
            return
        for token in tokens:
            occurrence = Occurrence(sequence, len(sequence.tokens) + 1)
            self._occurrences.setdefault((token,), []).append(occurrence)
            if sequence.tokens:
                self._occurrences.setdefault((sequence.tokens[-1], token), []).append(occurrence)
            sequence.tokens.append(token)
        self._size += len(tokens)
        while self._size > self._capacity and self._sequences[0] is not sequence:
            self._evict(self._sequences.popleft())

    def matches(self, recent: Sequence[int], max_length: int) -> list[Match]:
        """Return matches of the latest tokens, the longest (at most `max_length`) first.

        The occurrences of a longer match are among those of every shorter one.
        """
        by_length: dict[int, list[Occurrence]] = {}
        if len(recent) > 1:
            for occurrence in self._latest(recent[-2:]):
                by_length.setdefault(_match_length(occurrence, recent, max_length), []).append(occurrence)
        found: list[Match] = []
        occurrences: list[Occurrence] = []
        for length in sorted(by_length, reverse=True):
            occurrences = [*occurrences, *by_length[length]]
            found.append(Match(length, occurrences))
        of_one_token = list(self._latest(recent[-1:]))
        return [*found, Match(1, of_one_token)] if of_one_token else found

    def _latest(self, context: Sequence[int]) -> Iterator[Occurrence]:
        """Yield the latest occurrences of a context that a token followed."""
        occurrences = reversed(self._occurrences.get(tuple(context), ()))
        return (one for one in islice(occurrences, _MAX_OCCURRENCES) if one.next_token is not None)

    def _evict(self, sequence: TokenSequence) -> None:
        sequence.evicted = True
        for context in {*((token,) for token in sequence.tokens), *pairwise(sequence.tokens)}:
            left = [one for one in self._occurrences[context] if one.sequence is not sequence]
            if left:
                self._occurrences[context] = left
            else:
                del self._occurrences[context]
        self._size -= len(sequence.tokens)


def _match_length(occurrence: Occurrence, recent: Sequence[int], max_length: int) -> int:
    """Count the latest tokens that precede an occurrence, of which two are known to."""
    tokens, length = occurrence.sequence.tokens, 2
    most = min(max_length, occurrence.end, len(recent))
    while length < most and tokens[occurrence.end - 1 - length] == recent[-1 - length]:
        length += 1
    return length
