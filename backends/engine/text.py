"""From tokens to text while they come: incremental decoding, character ends, stop strings."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

# Tokens of the prefix the decoder is primed with: tokenizers that mark word starts need the one before.
_CONTEXT = 8


class TextStream:
    """The text of one branch. `text` is final once `stopped`; until then its last characters may be
    the start of a stop string."""

    def __init__(self, tokenizer: Tokenizer, prefix: Sequence[int], stop: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._stream = _primed(tokenizer, prefix[-_CONTEXT:])
        self._stop = tuple(stop)
        self._longest = max((len(s) for s in stop), default=0)
        self._taken = 0
        self.text = ""
        self.stopped = False

    def push(self, token: int) -> int:
        """Read one token; the length of the text after it (before any trimming at a stop)."""
        chunk = self._stream.step(self._tokenizer, token)
        if chunk:
            seen = max(0, len(self.text) - self._longest + 1)
            self.text += chunk
            end = len(self.text)
            found = [at for s in self._stop if (at := self.text.find(s, seen)) >= 0]
            if found:
                self.text = self.text[: min(found)]
                self.stopped = True
            return end
        return len(self.text)

    def take(self, final: bool) -> str:
        """The text not taken yet that can no longer be trimmed; all of it when `final`."""
        safe = len(self.text) if final or self.stopped else max(self._taken, len(self.text) - self._longest + 1)
        if self._longest == 0:
            safe = len(self.text)
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
