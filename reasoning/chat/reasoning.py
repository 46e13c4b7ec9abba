"""Splitting a model's text into reasoning and answer: whole texts, and texts that arrive in pieces."""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from branchwise.prompts.thinking import Thinking


class SplitText(NamedTuple):
    """The answer part and the reasoning part of a text, without the marks between them."""

    text: str
    reasoning: str


def split_reasoning(text: str, thinking: Thinking) -> SplitText:
    """Return the answer and the reasoning before it, as `Thinking.answer_part` divides them."""
    answer = thinking.answer_part(text)
    reasoning = "" if answer == text else text[: text.rfind(answer)].strip()
    return SplitText(answer, reasoning.removeprefix(thinking.open).removesuffix(thinking.close).strip())


def split_marked_reasoning(text: str, thinking: Thinking) -> SplitText:
    """Return the answer and the reasoning of a plain sample.

    Reasoning that opens in the middle and never closes stays text, because a plain sample is shown as it is.
    """
    opened = text.lstrip().startswith(thinking.open) or thinking.enabled is True
    return split_reasoning(text, thinking) if opened or thinking.close in text else SplitText(text, "")


class _Section(Enum):
    UNDECIDED = "undecided"  # the text so far may be the beginning of the opening mark
    REASONING = "reasoning"
    ANSWER = "answer"  # after reasoning, stripped
    PLAIN = "plain"  # no reasoning: the text as it is


@dataclass(slots=True)
class _Stripper:
    """Strips white space from both ends of a text that arrives in pieces."""

    started: bool = False
    pending: str = ""
    """White space that is dropped if the text ends here."""

    def add(self, piece: str) -> str:
        text = self.pending + piece
        if not self.started:
            text = text.lstrip()
        self.started = self.started or bool(text)
        ready = text.rstrip()
        self.pending = text[len(ready) :]
        return ready


class ReasoningSplitter:
    """Splits the text of one path while it arrives. The pieces add up to what `split_reasoning` returns for the whole.

    Two kinds of reasoning are recognized only in whole texts and count as answer text here: reasoning that the prompt
    opened while `thinking.enabled` is unset, and reasoning that opens in the middle of a text.
    """

    def __init__(self, thinking: Thinking) -> None:
        self._open = thinking.open
        self._close = thinking.close
        self._enabled = thinking.enabled is True
        self._section = _Section.UNDECIDED
        self._pending = ""  # text that may be the beginning of a mark
        self._reasoning = _Stripper()
        self._answer = _Stripper()

    def add(self, text: str) -> SplitText:
        """Return what the next piece of text completes of either part."""
        self._pending += text
        if self._section is _Section.UNDECIDED:
            self._decide()
        if self._section is _Section.UNDECIDED:
            return SplitText("", "")
        reasoning = self._take_reasoning() if self._section is _Section.REASONING else ""
        if self._section is _Section.REASONING:
            return SplitText("", reasoning)
        text, self._pending = self._pending, ""
        return SplitText(self._answer.add(text) if self._section is _Section.ANSWER else text, reasoning)

    def end(self) -> SplitText:
        """Return the text that was held back in case a mark followed."""
        pending, self._pending = self._pending, ""
        if self._section is _Section.REASONING or self._enabled:
            return SplitText("", self._reasoning.add(pending))
        return SplitText(pending, "")

    def _decide(self) -> None:
        start = self._pending.lstrip()
        if start.startswith(self._open):
            self._pending = start.removeprefix(self._open)
            self._section = _Section.REASONING
        elif not self._open.startswith(start):
            self._section = _Section.REASONING if self._enabled else _Section.PLAIN

    def _take_reasoning(self) -> str:
        """Return the reasoning up to the closing mark, or up to what may be the beginning of that mark."""
        before, closed, after = self._pending.partition(self._close)
        if closed:
            self._pending, self._section = after, _Section.ANSWER
            return self._reasoning.add(before)
        lengths = range(len(self._close) - 1, 0, -1)
        partial = next((length for length in lengths if before.endswith(self._close[:length])), 0)
        self._pending = before[len(before) - partial :]
        return self._reasoning.add(before[: len(before) - partial])
