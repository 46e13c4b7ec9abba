"""Answer formats: where in a text the answer stands, and the form in which equal answers are equal.

`extract` never guesses: a text without an answer in the expected place has none.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from branchwise.answers.numbers import clean, read_number, write_number

# "The answer is 72", "Final answer: **72**": the last such phrase, to the end of its line or sentence.
_STATED = re.compile(
    r"(?:final\s+)?answer\s*(?:is|:|=|would be|should be)\s*:?\s*(?P<answer>[^\n]+?)(?=\.?(?:\s*$|\n|\.\s))",
    re.IGNORECASE,
)
_HASHES = re.compile(r"####\s*(?P<answer>[^\n]+)")


class AnswerFormat(ABC):
    """How answers of a task are written."""

    symbolic: bool = False
    """Whether different normal forms may still be the same answer, to be decided by a mathematics library."""

    @abstractmethod
    def extract(self, text: str) -> str | None:
        """The answer as the text states it; None when it states none."""

    @abstractmethod
    def normal(self, answer: str) -> str:
        """The form in which equal answers are equal."""

    def display(self, answer: str) -> str:
        """The form in which an answer is shown."""
        return self.normal(answer)


def boxed(text: str) -> str | None:
    """The content of the last complete `\\boxed{...}` (or `\\fbox`), None without one."""
    found = None
    for match in re.finditer(r"\\f?boxed\s*\{", text):
        depth = 1
        for at in range(match.end(), len(text)):
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            if depth == 0:
                found = text[match.end() : at].strip()
                break
    return found or None


def stated(text: str) -> str | None:
    """What the last "answer is ..." phrase or `####` line states, None without one."""
    last = None
    for pattern in (_STATED, _HASHES):
        for match in pattern.finditer(text):
            if last is None or match.start() > last.start():
                last = match
    return clean(last.group("answer")) or None if last else None


@dataclass(frozen=True, slots=True)
class Math(AnswerFormat):
    """A number or an expression: in `\\boxed{}`, after "answer is", or after `####`."""

    symbolic = True

    def extract(self, text: str) -> str | None:
        return boxed(text) or _worth_stating(stated(text))

    def normal(self, answer: str) -> str:
        number = read_number(answer)
        return clean(answer) if number is None else write_number(number)


def _worth_stating(answer: str | None) -> str | None:
    """A stated mathematical answer holds a digit or LaTeX, and does not open with a sentence: "the answer
    is as follows: 3 ..." states none."""
    if answer is None or not re.search(r"\d|\\", answer) or re.match(r"(?:[A-Za-z]{2,}\W+){2,}", answer):
        return None
    # "The answer is 5 + 3 = 8" states 8; "The answer is x = 8" does, too.
    return answer.rsplit("=", 1)[-1].strip() or None


# A lone capital, or any letter in brackets or alone: "a long story" begins with no option.
_LETTER = re.compile(r"(?:\W*(?:[Oo]ption\s+)?)(?=[A-Z](?![A-Za-z'])|[a-z]\W*$|(?<=\()[a-z]\))([A-Za-z])")


@dataclass(frozen=True, slots=True)
class Letter(AnswerFormat):
    """The letter of one of the options: "(B)", "B.", "answer is B", `\\boxed{B}`."""

    letters: str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

    def extract(self, text: str) -> str | None:
        for candidate in (boxed(text), stated(text), text if len(text) < 16 else None):
            if candidate is not None:
                found = _LETTER.match(clean(candidate))
                if found and found.group(1).upper() in self.letters:
                    return found.group(1).upper()
        return None

    def normal(self, answer: str) -> str:
        return answer.strip("() .").upper()


_YES, _NO = ("yes", "true"), ("no", "false")


@dataclass(frozen=True, slots=True)
class YesNo(AnswerFormat):
    """Yes or no; True and False count as yes and no."""

    def extract(self, text: str) -> str | None:
        for candidate in (boxed(text), stated(text), text if len(text) < 16 else None):
            if candidate is not None:
                found = re.match(r"\W*(yes|no|true|false)\b", candidate, re.IGNORECASE)
                if found:
                    return found.group(1)
        return None

    def normal(self, answer: str) -> str:
        word = answer.strip(" .*").lower()
        return "yes" if word in _YES else "no" if word in _NO else word


@dataclass(frozen=True, slots=True)
class Text(AnswerFormat):
    """Free text after "Answer:"; case and white space don't count."""

    def extract(self, text: str) -> str | None:
        return boxed(text) or stated(text)

    def normal(self, answer: str) -> str:
        return self.display(answer).casefold()

    def display(self, answer: str) -> str:
        return re.sub(r"\s+", " ", answer).strip(" .")


@dataclass(frozen=True, slots=True)
class Structured(AnswerFormat):
    """A JSON object that a pydantic model accepts; the last one in the text."""

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
