"""Answer formats: extraction of an answer from a text, and its canonical form. Tasks choose one.

`extract` never guesses: it finds an answer only in the places listed in extraction.py, in the part of the text that
turn.py leaves. Letters and yes or no are in choices.py.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from branchwise.answers.characters import plain, visible
from branchwise.answers.extraction import boxed, list_is_unfinished, statements
from branchwise.answers.languages import LIST_WORD
from branchwise.answers.numbers import bare, clean, read_number, write_number
from branchwise.answers.statement import retracts, stated_value, without_ending
from branchwise.answers.turn import first_stated, without_thoughts


class AnswerFormat(ABC):
    """Format of a task's answers."""

    symbolic: bool = False
    """True if different normal forms may still be equal, which a mathematics library then decides."""
    has_answers: bool = True
    """False if no answer is expected, so that a run without one is complete."""

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
        if list_is_unfinished(text):
            return None
        return answer if all(self.extract(text + more) == answer for more in _CONTINUATIONS) else None


# Possible continuations of a truncated text: a longer number, a longer word, another line, an alternative, an equation.
_CONTINUATIONS = ("0", "x", "\nx", " or $1$", " or (B)", "= 1")


# A text that is nothing but a fenced line.
_FENCED = re.compile(r"`{3,}\w*\n([^\n]*)\n`{3,}")
_TIME = re.compile(r"(?<=\d)\s*([ap])\.?\s?m\b\.?", re.IGNORECASE)  # "10:30 a.m.", "10:30AM"


@dataclass(frozen=True, slots=True)
class Math(AnswerFormat):
    """A number or an expression: in `\\boxed{}`, after "answer is" or "Answer:", after `####`, or a number alone."""

    symbolic = True

    def extract(self, text: str) -> str | None:
        return first_stated(plain(text), self._find)

    def _find(self, text: str) -> str | None:
        found = boxed(text)
        if found is not None:
            return found
        for statement in statements(text, hashes=True):
            if retracts(statement):
                return ""
            if (stated := stated_value(statement)) is not None:
                return stated
        alone = text.strip()
        if fenced := _FENCED.fullmatch(alone):
            alone = fenced[1]
        alone = alone.rstrip("!")
        is_number = "\n" not in alone and read_number(alone) is not None
        return clean(alone) if is_number and (" " not in alone or re.search(r"\d", alone)) else None

    def normal(self, answer: str) -> str:
        number = read_number(answer)
        return _without_words(clean(answer)) if number is None else write_number(number)


def _without_words(text: str) -> str:
    """Write times as "5:30 p.m.", and a comma for "and" and "or" of other languages than English."""
    return clean(LIST_WORD.sub(", ", _TIME.sub(lambda found: f" {found[1].lower()}.m.", text)))


# End of a sentence, but not after "St." and the like.
_SENTENCE = re.compile(r"(?<=[a-z0-9)\"'*])(?<!\b[SM]t)(?<!\b[MD]r)(?<!\bMs)(?<!\bMrs)\.\s+(?=[A-Z])|[。।]")
_ABBREVIATION = re.compile(r"(?<![\w.])(?:[^\W\d_]\.)+[^\W\d_](?!\w)\.?")  # "U.S.", "a.m."
_EXCLAMATION = re.compile(r"(?<=[^\W\d_]{2})!+$")
_DASH = re.compile("[–—]")
_ARTICLE = re.compile(r"^(?:(?:the|an?)\s+)+(?=\w)")


@dataclass(frozen=True, slots=True)
class Text(AnswerFormat):
    """Free text after "Answer:", compared without case, white space, articles in front and dots of abbreviations."""

    def extract(self, text: str) -> str | None:
        return first_stated(visible(text), self._find)

    def _find(self, text: str) -> str | None:
        found = boxed(text)
        if found is not None:
            return found
        for statement in statements(text):
            if stated := bare(without_ending(_SENTENCE.split(statement, maxsplit=1)[0])):
                return stated
        return None

    def normal(self, answer: str) -> str:
        text = ""
        while text != answer:  # until nothing changes
            text, answer = answer, _without_variants(answer)
        return text

    def display(self, answer: str) -> str:
        return bare(answer)


def _without_variants(text: str) -> str:
    """Remove what two spellings of one text may differ in."""
    text = _EXCLAMATION.sub("", _DASH.sub("-", _TIME.sub(r" \1m", plain(bare(text)).casefold())))
    return _ARTICLE.sub("", _ABBREVIATION.sub(lambda found: found[0].replace(".", ""), text))


@dataclass(frozen=True, slots=True)
class Whole(AnswerFormat):
    """The whole reply without thoughts. Replies are equal if they have the same words and punctuation."""

    def extract(self, text: str) -> str | None:
        return without_thoughts(text).strip() or None

    def extract_cut(self, text: str) -> str | None:
        return None  # the end is missing

    def normal(self, answer: str) -> str:
        return " ".join(answer.split())

    def display(self, answer: str) -> str:
        return answer


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
