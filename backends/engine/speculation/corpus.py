"""What was generated before, by its suffixes: where tokens like the latest ones were seen, and what followed."""

from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import NamedTuple

_MOST_PLACES = 32  # looked at, the latest ones: some tokens are everywhere


@dataclass(slots=True, eq=False)
class Stream:
    """Tokens in the order in which they came."""

    tokens: "array[int]" = field(default_factory=lambda: array("q"))
    dropped: bool = False  # then it grows no more


class Place(NamedTuple):
    """A position in a stream: before its token number `at`."""

    stream: Stream
    at: int

    @property
    def ahead(self) -> int | None:
        """The token that followed, where one did yet."""
        tokens = self.stream.tokens
        return tokens[self.at] if self.at < len(tokens) else None


class Match(NamedTuple):
    """The places before which so many of the latest tokens were seen."""

    length: int
    places: Sequence[Place]


class Corpus:
    """Streams that grow, bounded in all. Not thread-safe."""

    def __init__(self, most: int) -> None:
        """`most`: tokens kept; the oldest streams go first."""
        self._most = most
        self._size = 0
        self._streams: deque[Stream] = deque()
        self._places: dict[tuple[int, ...], list[Place]] = {}
        """What is behind a token, and behind two."""

    def __len__(self) -> int:
        """Tokens kept."""
        return self._size

    def clear(self) -> None:
        """Drop every stream."""
        for stream in self._streams:
            stream.dropped = True
        self._streams.clear()
        self._places.clear()
        self._size = 0

    def begin(self) -> Stream:
        """A new stream."""
        stream = Stream()
        self._streams.append(stream)
        return stream

    def extend(self, stream: Stream, tokens: Sequence[int]) -> None:
        """Append to a stream, unless it was dropped."""
        if stream.dropped:
            return
        for token in tokens:
            place = Place(stream, len(stream.tokens) + 1)
            self._places.setdefault((token,), []).append(place)
            if stream.tokens:
                self._places.setdefault((stream.tokens[-1], token), []).append(place)
            stream.tokens.append(token)
        self._size += len(tokens)
        while self._size > self._most and self._streams[0] is not stream:
            self._drop(self._streams.popleft())

    def matches(self, recent: Sequence[int], longest: int) -> list[Match]:
        """Where the latest tokens were seen: as many of them as anywhere, at most `longest`, then fewer and fewer."""
        by_length: dict[int, list[Place]] = {}
        if len(recent) > 1:
            for place in self._behind(recent[-2:]):
                by_length.setdefault(_same(place, recent, longest), []).append(place)
        found: list[Match] = []
        places: list[Place] = []
        for length in sorted(by_length, reverse=True):
            places = [*places, *by_length[length]]
            found.append(Match(length, places))
        anywhere = list(self._behind(recent[-1:]))
        return [*found, Match(1, anywhere)] if anywhere else found

    def _behind(self, tokens: Sequence[int]) -> Iterator[Place]:
        """The latest places behind some tokens that something followed."""
        places = reversed(self._places.get(tuple(tokens), ()))
        return (place for place in islice(places, _MOST_PLACES) if place.ahead is not None)

    def _drop(self, stream: Stream) -> None:
        stream.dropped = True
        for context in {*((token,) for token in stream.tokens), *pairwise(stream.tokens)}:
            left = [place for place in self._places[context] if place.stream is not stream]
            if left:
                self._places[context] = left
            else:
                del self._places[context]
        self._size -= len(stream.tokens)


def _same(place: Place, recent: Sequence[int], longest: int) -> int:
    """How many tokens before a place are the latest ones, of which two are."""
    tokens, count = place.stream.tokens, 2
    most = min(longest, place.at, len(recent))
    while count < most and tokens[place.at - 1 - count] == recent[-1 - count]:
        count += 1
    return count
