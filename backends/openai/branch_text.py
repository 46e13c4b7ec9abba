"""Text of one branch as it is streamed: the ends of its tokens, and the search for stop strings."""

from collections.abc import Sequence

from branchwise.backends.openai.responses import BranchChunk
from branchwise.backends.openai.token_ends import token_ends
from branchwise.backends.stream import Tokens
from branchwise.core.path import TopLogprob


class BranchText:
    """Text of a branch. Until a stop string is found, its last characters are held back: they may begin one."""

    def __init__(self, copy: int, stops: Sequence[str], alternatives: int) -> None:
        self.text = ""
        """Text of all tokens, up to the end of the token that completed a stop string."""
        self.stop_at: int | None = None
        """Length of the text before the stop string; None until one is found."""
        self.count = 0
        """Tokens up to the stop; chunks if the server returns no tokens."""
        self._copy = copy
        self._stops = tuple(stops)
        self._longest_stop = max(map(len, stops), default=1)
        self._alternatives = alternatives
        self._delivered = 0

    @property
    def trimmed(self) -> str:
        """The stop string, and the rest of the token that completed it."""
        return "" if self.stop_at is None else self.text[self.stop_at :]

    def needs_strings(self, chunk: BranchChunk) -> bool:
        """Return True if `append` needs the text of each token of a chunk, and the chunk does not have it."""
        if chunk.strings is not None or not chunk.token_ids:
            return False
        return len(chunk.token_ids) > 1 or bool(chunk.finish and self._stops)

    def append(self, chunk: BranchChunk, strings: Sequence[str] | None) -> Tokens | None:
        """Append a chunk and return the event to deliver, or None. `strings`: [tokens] the text of each token alone."""
        before, ids = len(self.text), chunk.token_ids
        ends = [before + end for end in self._ends(chunk, strings)]  # empty if the chunk has text alone
        search_from = max(0, before - self._longest_stop + 1)
        self.text += chunk.text
        kept = self._find_stop(ends or [len(self.text)], search_from)
        if ends and self.stop_at is not None:
            ends = ends[:kept]
            self._complete_last_token(ends, chunk, strings, kept)
        text = self._next_text(final=chunk.finish is not None)
        logprobs = chunk.logprobs if chunk.logprobs is None or not ends else chunk.logprobs[:kept]
        if not (ids or text or logprobs):
            return None
        if ids:
            self.count += kept
        else:
            self.count += len(logprobs or ()) or (1 if chunk.text else 0)
        top = None
        if self._alternatives and ids and chunk.top is not None:
            top = tuple(_most_probable(row, self._alternatives) for row in chunk.top[:kept])
        return Tokens(
            copy=self._copy, token_ids=ids[:kept], text=text, ends=tuple(ends), logprobs=logprobs, top_logprobs=top
        )

    def _ends(self, chunk: BranchChunk, strings: Sequence[str] | None) -> tuple[int, ...]:
        """Return [tokens] the ends in the chunk's text. Without strings, the last token has all of it."""
        count = len(chunk.token_ids) or len(strings or ())
        if strings is not None and len(strings) == count:
            return token_ends(chunk.text, strings)
        return (*(0 for _ in range(count - 1)), len(chunk.text)) if count else ()

    def _find_stop(self, ends: Sequence[int], search_from: int) -> int:
        """Return the number of tokens up to the first that completes a stop string, or of all without one."""
        for count, end in enumerate(ends, 1):
            found = [at for stop in self._stops if (at := self.text.find(stop, search_from, end)) >= 0]
            if found:
                self.stop_at, self.text = min(found), self.text[:end]
                return count
        return len(ends)

    def _complete_last_token(
        self, ends: list[int], chunk: BranchChunk, strings: Sequence[str] | None, kept: int
    ) -> None:
        """Append the rest of the token that completed the stop string: servers cut the text at the string's end."""
        if strings is None or len(strings) != len(chunk.token_ids) or kept < len(strings):
            return
        start = ends[-2] if kept > 1 else len(self.text) - len(chunk.text)
        visible, whole = self.text[start:], strings[kept - 1].rstrip("\ufffd")
        for string in (whole, " " + whole):
            if visible and string.startswith(visible):
                self.text = self.text[:start] + string
                ends[-1] = len(self.text)
                return

    def _next_text(self, *, final: bool) -> str:
        """Return the undelivered text that no stop string can cut off any more."""
        safe = len(self.text) if self.stop_at is None else self.stop_at
        if self.stop_at is None and not final:
            safe -= self._longest_stop - 1
        text = self.text[self._delivered : max(self._delivered, safe)]
        self._delivered += len(text)
        return text


def _most_probable(row: dict[int, float], most: int) -> tuple[TopLogprob, ...]:
    """Return the most probable tokens of a row. Servers add the sampled token, which need not be one of them."""
    return tuple(sorted((TopLogprob(*one) for one in row.items()), key=lambda one: -one.logprob)[:most])
