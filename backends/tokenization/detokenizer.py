"""From tokens to text while they come: incremental decoding, character ends, stop strings."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

# Tokens of the prefix the decoder is primed with: tokenizers that mark word starts need the one before.
_CONTEXT = 8


class TextStream:
    """The text of one branch. `text` is all that its tokens say; `shown` is how much of it a stop string leaves.
    Until one is found, the last characters may be its start."""

    def __init__(self, tokenizer: Tokenizer, prefix: Sequence[int], stop: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._stream = _primed(tokenizer, prefix[-_CONTEXT:])
        self._stop = tuple(stop)
        self._longest = max((len(s) for s in stop), default=0)
        self._taken = 0
        self.text = ""
        self.shown: int | None = None  # characters before the stop string; None: none was found

    @property
    def stopped(self) -> bool:
        return self.shown is not None

    @property
    def trimmed(self) -> str:
        """What a stop string and the token that completed it cut off."""
        return "" if self.shown is None else self.text[self.shown :]

    def push(self, token: int) -> int:
        """Read one token; the length of the text after it."""
        chunk = self._stream.step(self._tokenizer, token)
        if chunk:
            seen = max(0, len(self.text) - self._longest + 1)
            self.text += chunk
            self.shown = min((at for s in self._stop if (at := self.text.find(s, seen)) >= 0), default=None)
        return len(self.text)

    def take(self, final: bool) -> str:
        """The text not taken yet that can no longer be trimmed; all of it when `final`."""
        safe = len(self.text) if self.shown is None else self.shown
        if not final and not self.stopped:
            safe = max(self._taken, safe - max(0, self._longest - 1))
        piece = self.text[self._taken : safe]
        self._taken = max(self._taken, safe)
        return piece


def _primed(tokenizer: Tokenizer, context: Sequence[int]) -> DecodeStream:
    """A decoder that has read `context`. One that ends inside a character is primed up to there only:
    the stream would take such a context for new text."""
    whole = len(context)
    while whole and tokenizer.decode(list(context[:whole]), skip_special_tokens=True).endswith("\ufffd"):
        whole -= 1
    stream = DecodeStream(ids=list(context[:whole]), skip_special_tokens=True)
    for token in context[whole:]:
        stream.step(tokenizer, token)
    return stream
