"""The number that a judge's reply states: a rating, or the number of a response."""

import re
from dataclasses import dataclass

from branchwise.answers.characters import plain
from branchwise.answers.formats import AnswerFormat
from branchwise.answers.turn import without_thoughts

_STATED = re.compile(
    r"\b(?:answer|rating|score|response|choice|select(?:ed)?|choose)\b(?:[^\w\n]|\b(?:is|the|of|number|no|response)\b)*"
    r"(\d+(?:\.\d+)?)(?![\d.]*\d)",
    re.IGNORECASE,
)
_OF_TEN = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)\s*(?:/|out of)\s*10\b", re.IGNORECASE)
_ALONE = re.compile(r"\W*(?:response\W*)?(\d+(?:\.\d+)?)\W*", re.IGNORECASE)
_BOXED = re.compile(r"\\boxed\{\W*(?:Response\W*)?(\d+(?:\.\d+)?)\W*\}")


@dataclass(frozen=True, slots=True)
class JudgeNumber(AnswerFormat):
    """The last number after "Answer:", "Rating:", "Response" and the like; or of a form such as 8/10, or alone."""

    def extract(self, text: str) -> str | None:
        text = plain(without_thoughts(text))
        if alone := _ALONE.fullmatch(text):
            return alone[1]
        for form in (_BOXED, _STATED, _OF_TEN):
            if found := form.findall(text):
                last: str = found[-1]
                return last
        return None

    def normal(self, answer: str) -> str:
        return answer
