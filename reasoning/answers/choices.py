"""Answers that choose: the letter of an option, yes or no."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from branchwise.answers.characters import plain
from branchwise.answers.extraction import boxed, last_line, statements
from branchwise.answers.formats import AnswerFormat
from branchwise.answers.languages import CONJUNCTION, NO, OPTIONS, REASONS, YES
from branchwise.answers.numbers import clean
from branchwise.answers.statement import retracts, without_ending
from branchwise.answers.turn import first_stated

# Text that may follow a choice: nothing, punctuation, a reason or a remark. "A triangle" and "no one" do not match.
_END = (
    r"(?:[\s*_.,:;!)\]}\"'`$]*$|[*_\"'\]}`$]*[.,:;!)][*_\"'`]*(?:\s|$)|[*_]*\s+[–—(-]"
    rf"|[*_]*\s+(?:because|since|as|so|which|for|{REASONS})(?![^\W\d_]))"
)
_LETTER_END = rf"(?:{_END}|[*_]*[.:,)]?\s*[\u0530-\u1fff\u3040-\ud7af])"  # "Bです"
# "A or B" is no choice.
_BOTH = rf"(?!\W*(?:(?:{CONJUNCTION}|/|,|&)\W*[A-HJ-Z](?![A-Za-z])|{CONJUNCTION}\W*$))"
_LETTER = re.compile(
    rf"[\W_]*(?i:(?:the\s+)?(?:(?:correct\s+|(?:la|a|el|il|die|der|de)\s+|l')?(?:{OPTIONS})(?![^\W\d_]))?(?:\s+is\b)?)[^\w(]*"
    rf"(?:\((?P<closed>[A-Za-z])\s*[)}}]|(?P<marked>[A-Za-z])\)"
    rf"|(?P<lone>[A-Z](?={_LETTER_END})|[a-z](?=[\W_]*$|\.\s+\S))){_BOTH}"
)
_CALLED = re.compile(
    r"(?=[A-Zoci])(?:\b(?:[Oo]ption|[Cc]hoice)\s+\(?([A-Z])\)?[*_]*\s+is\s+(?:the\s+)?(?:correct|right|best)\b"
    r"|([A-Z])(?<![^\s*(].)\)?[*_]*\s+is\s+the\s+(?:correct|right|best)\s+(?:answer|option|choice)\b"
    r"|\b(?:I(?:'d| would| will|'ll)?\s+(?:pick|choose|select|go with)|[Ii]t\s+(?:must|has to)\s+be)"
    rf"\s+(?:(?:option|choice|answer)\s+)?[*_]*(?:\(([A-Z])\)|([A-Z])(?={_END})){_BOTH})"
)

_MAX_LENGTH = 400  # characters read of a box


@dataclass(frozen=True, slots=True)
class Letter(AnswerFormat):
    """The letter of an option: `\\boxed{B}`, "answer is B", "option B is correct", "I pick B", "B. Paris" alone."""

    letters: str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

    def extract(self, text: str) -> str | None:
        return first_stated(plain(text), self._find)

    def _find(self, text: str) -> str | None:
        for candidate in _candidates(text):
            if retracts(candidate):
                return ""
            if (found := _LETTER.match(candidate)) and (letter := self._option(found)):
                return letter
        called = list(_CALLED.finditer(text))
        return self._option(called[-1]) if called else None

    def _option(self, found: re.Match[str]) -> str | None:
        letter = next(group for group in found.groups() if group is not None).upper()
        return letter if letter in self.letters else None

    def normal(self, answer: str) -> str:
        return plain(answer).strip("() .").upper()


_VERDICT = re.compile(rf"[\W_]*(?P<word>{YES}|{NO})(?={_END})(?!\W*(?:/|{CONJUNCTION}))", re.IGNORECASE)
_YES, _NO = (frozenset(plain(words).split("|")) for words in (YES, NO))


@dataclass(frozen=True, slots=True)
class YesNo(AnswerFormat):
    """Yes or no, boxed, stated or alone ("Yes, because ..."); True and False count as yes and no."""

    words: tuple[str, str] = ("yes", "no")
    """Names of the two in votes and answers."""

    def extract(self, text: str) -> str | None:
        return first_stated(plain(text), self._find)

    def _find(self, text: str) -> str | None:
        for candidate in _candidates(text):
            if found := _VERDICT.match(candidate):
                return found["word"]
            if retracts(candidate):
                return ""
        return None

    def normal(self, answer: str) -> str:
        word = plain(answer).strip(" .*").lower()
        return self.words[0] if word in _YES else self.words[1] if word in _NO else word


def _candidates(text: str) -> Iterator[str]:
    """Yield the candidates for a choice: a box, the statements, then the last line.

    The last line counts only if it is the whole text or a single word.
    """
    if (found := boxed(text)) is not None:
        yield clean(found[:_MAX_LENGTH])
    for statement in statements(text):
        yield clean(without_ending(statement))
    last = last_line(text)
    if last == text.strip() or re.fullmatch(r"[\W_]*[A-Za-z]{1,5}[\W_]*", last):
        yield clean(last)
