"""The text of one branch as it comes: where its tokens end, and where a stop string cuts it."""

from collections.abc import Sequence

from branchwise.backends.openai.ends import token_ends
from branchwise.backends.openai.wire import Piece
from branchwise.backends.stream import Tokens
from branchwise.core.path import TopLogprob


class Reading:
    """`text` is all that the tokens say, `shown` how much of it a stop string leaves (None: none was found).
    Until one is found, the last characters may be its beginning."""

    def __init__(self, copy: int, stops: Sequence[str], alternatives: int) -> None:
        self.text = ""
        self.shown: int | None = None
        self.count = 0
        """Tokens read, those after a stop left out; pieces, where there are none to see."""
        self._copy = copy
        self._stops = tuple(stops)
        self._longest = max(map(len, stops), default=1)
        self._alternatives = alternatives
        self._taken = 0

    @property
    def trimmed(self) -> str:
        """What a stop string and the token that completed it cut off."""
        return "" if self.shown is None else self.text[self.shown :]

    def wants_strings(self, piece: Piece) -> bool:
        """Whether it takes knowing what each token spells to read a piece."""
        several = len(piece.token_ids) > 1
        return piece.strings is None and (several or bool(piece.token_ids and piece.finish and self._stops))

    def read(self, piece: Piece, strings: Sequence[str] | None) -> Tokens | None:
        """What a piece brings that can be handed out; None where that is nothing. `strings`: what its tokens spell."""
        before, ids = len(self.text), piece.token_ids
        ends = [before + end for end in self._ends(piece, strings)]
        seen = max(0, before - self._longest + 1)
        self.text += piece.text
        kept = self._stop_at(ends if ids else [len(self.text)], seen)
        if ids and self.shown is not None:
            ends = ends[:kept]
            self._complete(ends, piece, strings, kept)
        text = self._take(final=piece.finish is not None)
        logprobs = piece.logprobs if piece.logprobs is None or not ids else piece.logprobs[:kept]
        if not (ids or text or logprobs):
            return None
        self.count += kept if ids else len(logprobs or ()) or bool(piece.text)
        top = None
        if self._alternatives and ids and piece.top is not None:
            top = tuple(_alternatives(row, self._alternatives) for row in piece.top[:kept])
        return Tokens(self._copy, ids[:kept], text, tuple(ends), logprobs, top)

    def _ends(self, piece: Piece, strings: Sequence[str] | None) -> tuple[int, ...]:
        count = len(piece.token_ids)
        if strings is not None and len(strings) == count:
            return token_ends(piece.text, strings)
        return (*(0 for _ in range(count - 1)), len(piece.text)) if count else ()

    def _stop_at(self, ends: Sequence[int], seen: int) -> int:
        """How many tokens there are up to the first that completes a stop string; all of them without one."""
        for count, end in enumerate(ends, 1):
            found = [at for stop in self._stops if (at := self.text.find(stop, seen, end)) >= 0]
            if found:
                self.shown, self.text = min(found), self.text[:end]
                return count
        return len(ends)

    def _complete(self, ends: list[int], piece: Piece, strings: Sequence[str] | None, kept: int) -> None:
        """Servers cut the text at a stop's end: what else its last token says is known from the token."""
        if strings is None or len(strings) != len(piece.token_ids) or kept < len(piece.token_ids):
            return
        start = ends[-2] if kept > 1 else len(self.text) - len(piece.text)
        here, whole = self.text[start:], strings[kept - 1].rstrip("\ufffd")
        for spelled in (whole, " " + whole):
            if here and spelled.startswith(here):
                self.text = self.text[:start] + spelled
                ends[-1] = len(self.text)
                return

    def _take(self, final: bool) -> str:
        """The text not taken yet that no stop string can cut off any more."""
        safe = len(self.text) if self.shown is None else self.shown
        if self.shown is None and not final:
            safe -= self._longest - 1
        piece = self.text[self._taken : max(self._taken, safe)]
        self._taken += len(piece)
        return piece


def _alternatives(row: dict[int, float], most: int) -> tuple[TopLogprob, ...]:
    """The most probable tokens of a row: servers add the one that was drawn."""
    return tuple(sorted((TopLogprob(*one) for one in row.items()), key=lambda one: -one.logprob)[:most])
