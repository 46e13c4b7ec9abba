"""Paths: a prompt and the tokens generated after it, in segments. Strategies fork and continue them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from branchwise.core.keys import cut_key
from branchwise.core.messages import Messages

# A word with the white space before it, so that no cut leaves white space at the end of a prefix: a model continues
# from there with tokens that it rarely sees. Scripts that set no spaces are cut after each character.
_UNSPACED = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef"
_WORD = re.compile(rf"\s*(?:[{_UNSPACED}]|[^\s{_UNSPACED}]+|$)")


class StopReason(Enum):
    """Reason for which a branch ended."""

    END = "end"  # the model ended its turn
    STOP = "stop"  # a stop string appeared
    LENGTH = "length"  # max_tokens, the budget or the context length was reached
    CANCELLED = "cancelled"


class TopLogprob(NamedTuple):
    """One of the most probable tokens at a position."""

    token_id: int
    logprob: float  # nats


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """A node in the tree of samples: the tokens of one segment, and the parent it continues. A root is a prompt.

    A prefix is always cut between generated tokens; text is never tokenized again.
    """

    parent: "Path | None"
    key: int
    """Key of the sample that this segment belongs to; a root has the key of its prompt."""
    token_ids: tuple[int, ...]
    """Tokens of the segment, including those of a stop string; empty if the backend returns text only."""
    text: str
    """Text of all tokens of the segment, including a stop string."""
    ends: tuple[int, ...] = ()
    """[size] length of `text` after each token; empty for a root. Without tokens: after each word, if the backend
    continues text."""
    logprobs: tuple[float, ...] | None = None
    """[tokens] log-probability of each token before temperature and filters, in nats.
    A backend may report them without token ids."""
    top_logprobs: tuple[tuple[TopLogprob, ...], ...] | None = None
    """[tokens, Sampling.logprobs] most probable tokens at each position."""
    stop_reason: StopReason | None = None
    forced: bool = False
    """True if the segment was inserted rather than sampled, such as the text that ends a thinking budget."""
    messages: Messages | None = None
    """Prompt of a root; None for other segments."""
    shown: int | None = None
    """Characters of `text` before its stop string, used while this is the last segment; None means all of them."""
    cut_from: int | None = None
    """Key of the sample that a prefix was cut from; None if the path is not a cut."""

    @property
    def root(self) -> "Path":
        """Prompt of the path."""
        node = self
        while node.parent is not None:
            node = node.parent
        return node

    def segments(self) -> Iterator["Path"]:
        """Return the segments from the root (excluded) to this one."""
        chain = []
        node = self
        while node.parent is not None:
            chain.append(node)
            node = node.parent
        return reversed(chain)

    @property
    def size(self) -> int:
        """Number of tokens of the segment; of words if the backend returns text only, and continues it."""
        return len(self.token_ids) or (0 if self.parent is None else len(self.ends))

    @property
    def generated(self) -> int:
        """Number of tokens after the prompt, or of words; see `size`."""
        return sum(segment.size for segment in self.segments())

    @property
    def opening(self) -> str:
        """Assistant prefix at the end of the prompt."""
        messages = self.root.messages
        return messages.prefix if messages is not None else ""

    @property
    def whole_text(self) -> str:
        """Text after the prompt, with the assistant prefix and untrimmed. A continuation starts at its end."""
        return self.opening + "".join(segment.text for segment in self.segments())

    @property
    def answer_text(self) -> str:
        """Text after the prompt, with the assistant prefix; the last segment is trimmed at its stop string."""
        text = self.whole_text
        return text if self.shown is None else text[: len(text) - len(self.text) + self.shown]

    def token_ends(self) -> tuple[int, ...]:
        """Return [generated tokens] the length of `whole_text` after each token."""
        ends: list[int] = []
        before = len(self.opening)
        for segment in self.segments():
            ends.extend(before + end for end in segment.ends)
            before += len(segment.text)
        return tuple(ends)

    def all_token_ids(self) -> tuple[int, ...]:
        """Return the prompt tokens followed by the generated tokens."""
        tokens = list(self.root.token_ids)
        for segment in self.segments():
            tokens.extend(segment.token_ids)
        return tuple(tokens)

    def sampled_logprobs(self) -> tuple[float, ...] | None:
        """Return the log-probability of every sampled token, or None if a segment lacks them."""
        values: list[float] = []
        for segment in self.segments():
            if segment.forced:
                continue
            if segment.logprobs is None:
                return None
            values.extend(segment.logprobs)
        return tuple(values)

    def cut(self, length: int) -> "Path":
        """Return the prefix of `length` generated tokens, as a path with a key of its own.

        The key depends only on the sample and the length, not on the steps in which it was sampled. The full
        length of an unfinished path returns the path itself. Raises ValueError if `length` is out of range.
        """
        if not 0 <= length <= self.generated:
            raise ValueError(f"length: is {length}; use 0 to {self.generated}")
        if length == 0:
            return self.root
        if length == self.generated and self.stop_reason is None:
            return self
        node, end = self, self.generated
        while node.parent is not None and end - node.size >= length:
            end -= node.size
            node = node.parent
        kept = length - (end - node.size)
        logprobs = node.logprobs if node.logprobs is not None and len(node.logprobs) == node.size else None
        return replace(
            node,
            key=cut_key(node.key, length),
            token_ids=node.token_ids[:kept],
            text=node.text[: node.ends[kept - 1]] if node.ends else node.text,
            shown=None,
            cut_from=node.key if node.cut_from is None else node.cut_from,
            ends=node.ends[:kept],
            logprobs=None if logprobs is None else logprobs[:kept],
            top_logprobs=None if node.top_logprobs is None else node.top_logprobs[:kept],
            stop_reason=None,
        )


def word_ends(text: str) -> tuple[int, ...]:
    """Return [words] the length of `text` after each word. White space at its end is a word of its own."""
    return tuple(match.end() for match in _WORD.finditer(text) if match.end() > match.start())
