"""Incremental detokenizer: text of tokens as they are sampled, with stop strings and character boundaries."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

_CONTEXT = 8  # tokens of the prefix to decode first: tokenizers that mark word starts need the one before


class Detokenizer:
    """The text of one branch. Until a stop string is complete, the last characters may be its beginning."""

    def __init__(self, tokenizer: Tokenizer, prefix: Sequence[int], stop: Sequence[str]) -> None:
        """Decode tokens that follow `prefix`, up to the first of the `stop` strings."""
        self._tokenizer = tokenizer
        self._stream = _stream_after(tokenizer, prefix[-_CONTEXT:])
        self._stop = tuple(stop)
        self._longest_stop = max((len(s) for s in stop), default=0)
        self._taken = 0
        self.text = ""  # of all tokens, a stop string included
        self.shown: int | None = None  # characters before the stop string, None without one

    @property
    def stopped(self) -> bool:
        return self.shown is not None

    @property
    def trimmed(self) -> str:
        """The text from the stop string on."""
        return "" if self.shown is None else self.text[self.shown :]

    def push(self, token: int) -> int:
        """Append a token. Return the length of the text."""
        chunk = self._stream.step(self._tokenizer, token)
        if chunk:
            seen = max(0, len(self.text) - self._longest_stop + 1)
            self.text += chunk
            self.shown = min((at for s in self._stop if (at := self.text.find(s, seen)) >= 0), default=None)
        return len(self.text)

    def take(self, final: bool) -> str:
        """Return the text since the last call that no stop string can trim any more; all of it if `final`."""
        safe = len(self.text) if self.shown is None else self.shown
        if not final and not self.stopped:
            safe = max(self._taken, safe - max(0, self._longest_stop - 1))
        piece = self.text[self._taken : safe]
        self._taken = max(self._taken, safe)
        return piece


def _stream_after(tokenizer: Tokenizer, context: Sequence[int]) -> DecodeStream:
    """Return a decoder that has read `context`.

    A context that ends inside a character is not decoded as a whole first: the decoder would emit it as new text.
    """
    whole = len(context)
    while whole and tokenizer.decode(list(context[:whole]), skip_special_tokens=True).endswith("\ufffd"):
        whole -= 1
    stream = DecodeStream(ids=list(context[:whole]), skip_special_tokens=True)
    for token in context[whole:]:
        stream.step(tokenizer, token)
    return stream
