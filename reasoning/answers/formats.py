"""Answer formats: how answers of a task are written, and the form in which equal answers are equal.

`extract` never guesses: a text without an answer in the expected place has none, and where a text was
cut off (`complete=False`), what the cut may have shortened is no answer.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from branchwise.answers.numbers import clean, read_number, write_number
from branchwise.answers.places import Statement, boxed, stated


class AnswerFormat(ABC):
    """How answers of a task are written."""

    symbolic: bool = False
    """Whether different normal forms may still be the same answer, to be decided by a mathematics library."""

    @abstractmethod
    def extract(self, text: str, complete: bool = True) -> str | None:
        """The answer as the text states it; None when it states none."""

    @abstractmethod
    def normal(self, answer: str) -> str:
        """The form in which equal answers are equal."""

    def display(self, answer: str) -> str:
        """The form in which an answer is shown."""
        return self.normal(answer)


_REASON = re.compile(r",\s+(?=[A-Za-z]{2,})|;\s|\s(?=(?:because|since|as|so|which|where|when|if|after|for)\b)")
_FILLER = re.compile(
    r"^(?:(?:therefore|thus|then|hence|approximately|about|around|exactly|simply|just|only|still|now|indeed|also|"
    r"equal to|equals|the number|given by)\b[\s,:]*|[:=]\s*)+",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Math(AnswerFormat):
    """A number or an expression: in `\\boxed{}`, after "answer is" or "Answer:", or after `####`."""

    symbolic = True

    def extract(self, text: str, complete: bool = True) -> str | None:
        found = boxed(text)
        if found is not None:
            return found
        said = stated(text, complete)
        return None if said is None else _value(said)

    def normal(self, answer: str) -> str:
        number = read_number(answer)
        return clean(answer) if number is None else write_number(number)


def _value(said: Statement) -> str | None:
    """The value a statement begins with, without its reasons: "72, because 48/2 = 24" states 72."""
    text = said.text.replace("**", "").replace("`", "")
    if (math := re.match(r"\\\((.+?)\\\)|\\\[(.+?)\\\]|\$\$(.+?)\$\$|\$(?!\d[\d,.]*\s)([^$]+)\$", text)) is not None:
        inside = next(group for group in math.groups() if group is not None)
        return clean(inside.rsplit("=", 1)[-1]) or None
    sentence = re.split(r"[.!?](?=\s|$)", text, maxsplit=1)[0]
    value = _REASON.split(sentence, maxsplit=1)[0]
    if said.open and not text[len(value) :].strip(" .,"):
        return None
    value = _FILLER.sub("", clean(value))
    if (aside := re.match(r"(.+?)\s+\(.*\)$", value)) and read_number(aside.group(1)) is not None:
        value = aside.group(1)  # "5 (3 + 2 = 5)"
    value = value.rsplit("=", 1)[-1].strip()  # "5 + 3 = 8" and "x = 8" state 8
    return value if _is_value(value) else None


def _is_value(text: str) -> bool:
    """Whether this can be mathematics: a sentence is none, though it may hold a number."""
    if not re.search(r"\d|\\", text):
        return False
    return read_number(text) is not None or not re.match(r"[A-Za-z]{2,}(?:\W|$)", text)


# A capital alone, or a letter before what ends it: "A triangle" begins with no option.
_LETTER = re.compile(
    r"(?:\W*(?:option|choice)\b)?\W*?(?P<bracket>\()?(?P<letter>[A-Za-z])"
    r"(?:(?P<closed>\))|[\s*_\])}.:,\"']*(?P<end>$)|(?P<mark>[.:,\]*]+(?:\s|$)|\s+(?:because|since|as|is)\b))",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Letter(AnswerFormat):
    """The letter of one of the options: "(B)", "B.", "answer is B", `\\boxed{B}`."""

    letters: str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

    def extract(self, text: str, complete: bool = True) -> str | None:
        for candidate in _candidates(text, complete):
            found = _LETTER.match(candidate.text.strip())
            if found is None or (candidate.open and found.group("end") is not None):
                continue
            letter = found.group("letter")
            if letter.islower() and found.group("mark") is not None:  # "a, b and c"
                continue
            if letter.upper() in self.letters:
                return letter.upper()
        return None

    def normal(self, answer: str) -> str:
        return answer.strip("() .").upper()


_YES, _NO = ("yes", "true"), ("no", "false")


@dataclass(frozen=True, slots=True)
class YesNo(AnswerFormat):
    """Yes or no; True and False count as yes and no."""

    def extract(self, text: str, complete: bool = True) -> str | None:
        for candidate in _candidates(text, complete):
            said = candidate.text
            found = re.match(r"\W*(yes|no|true|false)\b(?!\s*(?:/|or\b))", said, re.IGNORECASE)
            if found and not (candidate.open and found.end() == len(said)):
                return found.group(1)
        return None

    def normal(self, answer: str) -> str:
        word = answer.strip(" .*").lower()
        return "yes" if word in _YES else "no" if word in _NO else word


# Where a sentence ends: not after "St." and the like.
_SENTENCE = re.compile(r"(?<=[a-z0-9)\"'*])(?<!\b[SM]t)(?<!\b[MD]r)(?<!\bMs)(?<!\bMrs)\.\s+(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Text(AnswerFormat):
    """Free text after "Answer:"; case and white space don't count."""

    def extract(self, text: str, complete: bool = True) -> str | None:
        found = boxed(text)
        if found is not None:
            return found
        said = stated(text, complete)
        if said is None or said.open:
            return None
        return clean(_SENTENCE.split(said.text, maxsplit=1)[0].replace("**", "")) or None

    def normal(self, answer: str) -> str:
        return self.display(answer).casefold()

    def display(self, answer: str) -> str:
        return re.sub(r"\s+", " ", answer).strip(" .")


@dataclass(frozen=True, slots=True)
class Structured(AnswerFormat):
    """A JSON object that a pydantic model accepts; the last one in the text."""

    model: type[BaseModel]

    def extract(self, text: str, complete: bool = True) -> str | None:
        for candidate in reversed(_json_objects(text)):
            try:
                value = self.model.model_validate_json(candidate)
            except ValidationError:
                continue
            return value.model_dump_json()
        return None

    def normal(self, answer: str) -> str:
        return json.dumps(json.loads(answer), sort_keys=True)


def _candidates(text: str, complete: bool) -> list[Statement]:
    """Where a choice may stand: in a box, in a statement, or alone as the whole text."""
    found = boxed(text)
    said = [Statement(clean(found), open=False)] if found is not None else []
    if (statement := stated(text, complete)) is not None:
        said.append(statement)
    if len(text) < 16:
        said.append(Statement(text, open=not complete))
    return said


def _json_objects(text: str) -> Sequence[str]:
    """Every outermost JSON object in a text."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while (at := text.find("{", at)) >= 0:
        try:
            _, end = decoder.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError):
            at += 1
            continue
        found.append(text[at:end])
        at = end
    return found
