"""Answer formats: extraction of an answer from a text, and its canonical form. Tasks choose one.

`extract` never guesses: it finds an answer only in the places listed in extraction.py.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from branchwise.answers.extraction import boxed, last_line, statements
from branchwise.answers.numbers import bare, clean, read_number, write_number
from branchwise.answers.statement import retracts, stated_value


class AnswerFormat(ABC):
    """Format of a task's answers."""

    symbolic: bool = False
    """True if different normal forms may still be equal, which a mathematics library then decides."""

    @abstractmethod
    def extract(self, text: str) -> str | None:
        """Return the answer as written in the text; None if the text states no answer."""

    @abstractmethod
    def normal(self, answer: str) -> str:
        """Return the canonical form of an answer: equal answers have equal forms."""

    def is_symbolic(self, normal: str) -> bool:
        """Return True if this normal form needs a symbolic comparison."""
        return self.symbolic

    def display(self, answer: str) -> str:
        """Return the form of an answer that is shown to users."""
        return self.normal(answer)

    def extract_cut(self, text: str) -> str | None:
        """Return the answer of a truncated text; None if a continuation could change it.

        "The answer is 7" may be the beginning of 72.
        """
        answer = self.extract(text)
        return answer if all(self.extract(text + more) == answer for more in _CONTINUATIONS) else None


# Possible continuations of a truncated text: a longer number, a longer word, another line, an alternative.
_CONTINUATIONS = ("0", "x", "\nx", " or $1$", " or (B)")


@dataclass(frozen=True, slots=True)
class Math(AnswerFormat):
    """A number or an expression: in `\\boxed{}`, after "answer is" or "Answer:", after `####`, or a number alone."""

    symbolic = True

    def extract(self, text: str) -> str | None:
        found = boxed(text)
        if found is not None:
            return found
        for statement in statements(text, hashes=True):
            if retracts(statement):
                return None
            if (stated := stated_value(statement)) is not None:
                return stated
        alone = text.strip()
        return clean(alone) if "\n" not in alone and read_number(alone) is not None else None

    def normal(self, answer: str) -> str:
        number = read_number(answer)
        return clean(answer) if number is None else write_number(number)


# Text that may follow a choice: nothing, punctuation, a reason or a remark. "A triangle" and "no one" do not match.
_END = (
    r"(?:[\s*_.,:;!)\]}\"'`$]*$|[*_\"'\]}`$]*[.,:;!)][*_\"'`]*(?:\s|$)|[*_]*\s+[–—(-]"
    r"|[*_]*\s+(?:because|since|as|so|which|for)\b)"
)
_LETTER = re.compile(
    r"[\W_]*(?i:(?:the\s+)?(?:(?:correct\s+)?(?:option|choice|letter|answer)\b)?(?:\s+is\b)?)[^\w(]*"
    r"(?:\((?P<closed>[A-Za-z])\s*[)}]|(?P<marked>[A-Za-z])\)|(?P<lone>[A-Z](?=" + _END + r")|[a-z](?=[\W_]*$)))"
    r"(?!\W*(?:\s(?:or|and)\s|/|,|&)\W*[A-HJ-Z]\b)"  # "A or B" chooses neither
)
_CALLED_CORRECT = re.compile(
    r"(?:\b(?:[Oo]ption|[Cc]hoice)\s+\(?([A-Z])\)?[*_]*\s+is\s+(?:the\s+)?(?:correct|right|best)\b"
    r"|(?:^|[\s*(])([A-Z])\)?[*_]*\s+is\s+the\s+(?:correct|right|best)\s+(?:answer|option|choice)\b)"
)


@dataclass(frozen=True, slots=True)
class Letter(AnswerFormat):
    """The letter of an option: `\\boxed{B}`, "answer is B", "option B is correct", or "(B)" and "B. Paris" alone."""

    letters: str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

    def extract(self, text: str) -> str | None:
        for candidate in _choices(text):
            if retracts(candidate):
                return None
            if (found := _LETTER.match(candidate)) and (letter := self._option(found)):
                return letter
        called = list(_CALLED_CORRECT.finditer(text))
        return self._option(called[-1]) if called else None

    def _option(self, found: re.Match[str]) -> str | None:
        letter = next(group for group in found.groups() if group is not None).upper()
        return letter if letter in self.letters else None

    def normal(self, answer: str) -> str:
        return answer.strip("() .").upper()


_YES, _NO = ("yes", "true"), ("no", "false")
_VERDICT = re.compile(r"[\W_]*(yes|no|true|false)(?=" + _END + r")(?!\W*(?:/|\b(?:or|and)\b))", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class YesNo(AnswerFormat):
    """Yes or no, boxed, stated or alone ("Yes, because ..."); True and False count as yes and no."""

    words: tuple[str, str] = ("yes", "no")
    """Names of the two in votes and answers."""

    def extract(self, text: str) -> str | None:
        for candidate in _choices(text):
            if retracts(candidate):
                return None
            if found := _VERDICT.match(candidate):
                return found.group(1)
        return None

    def normal(self, answer: str) -> str:
        word = answer.strip(" .*").lower()
        return self.words[0] if word in _YES else self.words[1] if word in _NO else word


def _choices(text: str) -> Iterator[str]:
    """Yield the candidates for a choice: a box, the statements, then the last line.

    The last line counts only if it is the whole text or a single word.
    """
    if (found := boxed(text)) is not None:
        yield clean(found)
    yield from map(clean, statements(text))
    last = last_line(text)
    if last == text.strip() or re.fullmatch(r"[\W_]*[A-Za-z]{1,5}[\W_]*", last):
        yield clean(last)


# End of a sentence, but not after "St." and the like.
_SENTENCE = re.compile(r"(?<=[a-z0-9)\"'*])(?<!\b[SM]t)(?<!\b[MD]r)(?<!\bMs)(?<!\bMrs)\.\s+(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Text(AnswerFormat):
    """Free text after "Answer:", compared without case and white space."""

    def extract(self, text: str) -> str | None:
        found = boxed(text)
        if found is not None:
            return found
        for statement in statements(text):
            if stated := bare(_SENTENCE.split(statement, maxsplit=1)[0]):
                return stated
        return None

    def normal(self, answer: str) -> str:
        return self.display(answer).casefold()

    def display(self, answer: str) -> str:
        return bare(answer)


@dataclass(frozen=True, slots=True)
class Structured(AnswerFormat):
    """The last JSON object in the text that a pydantic model accepts."""

    model: type[BaseModel]

    def extract(self, text: str) -> str | None:
        for candidate in reversed(_json_objects(text)):
            try:
                value = self.model.model_validate_json(candidate)
            except ValidationError:
                continue
            return value.model_dump_json()
        return None

    def normal(self, answer: str) -> str:
        return json.dumps(json.loads(answer), sort_keys=True)


def _json_objects(text: str) -> Sequence[str]:
    """Return every outermost JSON object in a text."""
    decoder = json.JSONDecoder()
    found: list[str] = []
    at = 0
    while (at := text.find("{", at)) >= 0:
        try:
            _, end = decoder.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError):
            at += 1
            continue
        found.append(text[at:end])
        at = end
    return found
