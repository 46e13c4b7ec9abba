"""A path: a prompt and the tokens that were generated after it, segment by segment."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from branchwise.core.keys import cut_key
from branchwise.core.messages import Messages


class StopReason(Enum):
    """Why a branch ended."""

    END = "end"  # the model ended its turn
    STOP = "stop"  # a stop string appeared
    LENGTH = "length"  # max_tokens, the budget or the context ran out
    CANCELLED = "cancelled"


class TopLogprob(NamedTuple):
    """An alternative at one position."""

    token_id: int
    logprob: float  # nats


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """A node in the tree of samples: the tokens of one segment, and its parent. A root is a prompt.

    A prefix is always cut between tokens that were generated; text is never tokenized again.
    """

    parent: "Path | None"
    key: int
    """The noise key of the sample this segment is (a root's: of its prompt)."""
    token_ids: tuple[int, ...]
    """The segment's tokens, a stop's own included; empty where a backend has no tokens to show."""
    text: str
    """The whole text of the segment's tokens, a stop's own included."""
    ends: tuple[int, ...] = ()
    """[len(token_ids)] the length of `text` once each token is read; a root's is empty."""
    logprobs: tuple[float, ...] | None = None
    """[tokens] log-probability of each token under the model itself, before temperature and filters; nats.
    A backend may report them without token ids."""
    top_logprobs: tuple[tuple[TopLogprob, ...], ...] | None = None
    """[tokens, Sampling.logprobs] the most probable alternatives at each position."""
    stop_reason: StopReason | None = None
    forced: bool = False
    """Whether the segment was written in the model's place (the end of a thinking budget, say)."""
    messages: Messages | None = None
    """A root's prompt."""
    shown: int | None = None
    """How much of `text` is shown while this is the last segment: up to its stop string. None is all of it."""
    cut_from: int | None = None
    """A prefix's: the key of the sample whose tokens it begins with."""

    @property
    def root(self) -> "Path":
        """The prompt this path grew from."""
        node = self
        while node.parent is not None:
            node = node.parent
        return node

    def segments(self) -> Iterator["Path"]:
        """The segments from the root (excluded) to this path."""
        chain = []
        node = self
        while node.parent is not None:
            chain.append(node)
            node = node.parent
        return reversed(chain)

    @property
    def generated(self) -> int:
        """How many tokens follow the prompt."""
        return sum(len(segment.token_ids) for segment in self.segments())

    @property
    def opening(self) -> str:
        """The assistant prefix the prompt ends with."""
        messages = self.root.messages
        return messages.prefix if messages is not None else ""

    @property
    def whole_text(self) -> str:
        """The text that follows the prompt, its opening included and nothing trimmed: what a continuation continues."""
        return self.opening + "".join(segment.text for segment in self.segments())

    @property
    def answer_text(self) -> str:
        """The text that follows the prompt, its opening included and the last segment trimmed at its stop."""
        text = self.whole_text
        return text if self.shown is None else text[: len(text) - len(self.text) + self.shown]

    def token_ends(self) -> tuple[int, ...]:
        """[generated tokens] the length of `whole_text` once each token is read."""
        ends: list[int] = []
        before = len(self.opening)
        for segment in self.segments():
            ends.extend(before + end for end in segment.ends)
            before += len(segment.text)
        return tuple(ends)

    def all_token_ids(self) -> tuple[int, ...]:
        """Prompt and generated tokens."""
        tokens = list(self.root.token_ids)
        for segment in self.segments():
            tokens.extend(segment.token_ids)
        return tuple(tokens)

    def sampled_logprobs(self) -> tuple[float, ...] | None:
        """Log-probabilities of every token the model drew, or None where a segment has none."""
        values: list[float] = []
        for segment in self.segments():
            if segment.forced:
                continue
            if segment.logprobs is None:
                return None
            values.extend(segment.logprobs)
        return tuple(values)

    def cut(self, length: int) -> "Path":
        """The prefix of `length` generated tokens, as a path to continue with samples of its own.

        Its key depends on the sample and the length alone, not on the steps in which the sample was
        drawn. Only the whole of a path that has not ended is the path itself. Raises ValueError.
        """
        if not 0 <= length <= self.generated:
            raise ValueError(f"length: is {length}; use 0 to {self.generated}")
        if length == 0:
            return self.root
        if length == self.generated and self.stop_reason is None:
            return self
        node, end = self, self.generated
        while node.parent is not None and end - len(node.token_ids) >= length:
            end -= len(node.token_ids)
            node = node.parent
        kept = length - (end - len(node.token_ids))
        return replace(
            node,
            key=cut_key(node.key, length),
            token_ids=node.token_ids[:kept],
            text=node.text[: node.ends[kept - 1]] if node.ends else node.text,
            shown=None,
            cut_from=node.key if node.cut_from is None else node.cut_from,
            ends=node.ends[:kept],
            logprobs=None if node.logprobs is None else node.logprobs[:kept],
            top_logprobs=None if node.top_logprobs is None else node.top_logprobs[:kept],
            stop_reason=None,
        )
