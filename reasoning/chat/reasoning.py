"""Telling thoughts from the answer while a text grows."""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from branchwise.chat.responder import Spoken, spoken
from branchwise.prompts.thinking import Thinking


class Piece(NamedTuple):
    """What can be told of a text by now."""

    text: str
    thoughts: str


class _Part(Enum):
    START = "start"  # too little to tell
    THOUGHTS = "thoughts"
    AFTER = "after"  # the answer after thoughts, trimmed
    TEXT = "text"  # there were none: the text as it is


def parted(said: str, thinking: Thinking) -> Spoken:
    """What a path says whose text is all that is asked for: thoughts that began in the middle and never ended are
    text."""
    begun = said.lstrip().startswith(thinking.open) or thinking.enabled is True
    return spoken(said, thinking) if begun or thinking.close in said else Spoken(said, "")


@dataclass(slots=True)
class _Trimmed:
    """A text without the white space at its ends, as it grows."""

    begun: bool = False
    held: str = ""

    def add(self, text: str) -> str:
        text = self.held + text
        if not self.begun:
            text = text.lstrip()
        self.begun = self.begun or bool(text)
        kept = text.rstrip()
        self.held = text[len(kept) :]
        return kept


class ThoughtSplitter:
    """Takes a path's text piece by piece; all pieces together are what `spoken` makes of the whole.

    Except where thoughts begin in the prompt, and nobody says that the model thinks, or in the middle of a text: then
    they are told as text.
    """

    def __init__(self, thinking: Thinking) -> None:
        self._open, self._close, self._thinks = thinking.open, thinking.close, thinking.enabled is True
        self._part = _Part.START
        self._held = ""  # text that may be the beginning of a mark
        self._thoughts, self._answer = _Trimmed(), _Trimmed()

    def add(self, text: str) -> Piece:
        """The next piece."""
        self._held += text
        if self._part is _Part.START:
            self._start()
        if self._part is _Part.START:
            return Piece("", "")
        thoughts = self._think() if self._part is _Part.THOUGHTS else ""
        if self._part in (_Part.START, _Part.THOUGHTS):
            return Piece("", thoughts)
        text, self._held = self._held, ""
        return Piece(self._answer.add(text) if self._part is _Part.AFTER else text, thoughts)

    def end(self) -> Piece:
        """What was held back when the text is over."""
        held, self._held = self._held, ""
        if self._part is _Part.THOUGHTS or self._thinks:
            return Piece("", self._thoughts.add(held))
        return Piece(held, "")

    def _start(self) -> None:
        begun = self._held.lstrip()
        if begun.startswith(self._open):
            self._held, self._part = begun.removeprefix(self._open), _Part.THOUGHTS
        elif not self._open.startswith(begun):
            self._part = _Part.THOUGHTS if self._thinks else _Part.TEXT

    def _think(self) -> str:
        """The thoughts up to their end, or to what may be the beginning of its mark."""
        before, closed, after = self._held.partition(self._close)
        if closed:
            self._held, self._part = after, _Part.AFTER
            return self._thoughts.add(before)
        kept = next((count for count in range(len(self._close) - 1, 0, -1) if before.endswith(self._close[:count])), 0)
        self._held = before[len(before) - kept :]
        return self._thoughts.add(before[: len(before) - kept])
