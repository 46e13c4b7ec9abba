"""The value that a statement about a mathematical answer begins with: "72, because 48/2 = 24" states 72."""

import re

from branchwise.answers.numbers import clean, read_number
from branchwise.answers.words import MATHEMATICAL

# "$x = 4$" at the beginning, unless it is one of several ("$2$ or $3$") or money ("$5 and $6").
_DELIMITED = re.compile(
    r"(?:\\\((?P<round>.+?)\\\)|\\\[(?P<square>.+?)\\\]|\$\$(?P<display>.+?)\$\$"
    r"|\$(?P<inline>[^\s$](?:[^$]*[^\s$])?|\s[^$]*\s)\$(?!\d))(?!\s*(?:,|or\b|and\b|/|:)\s*(?:\\\(|[$\d]))"
)
_WORDS = re.compile(r"\\(?:text(?:bf|it)?|mathrm)\s*\{[^{}]+\}(?=[\s.]*$)")  # "\text{east}" is meant as an answer
_SENTENCE = re.compile(r"(?<!\\)[.!?][\"'*_)]*(?=\s|$)")
# Where the value ends and its reason begins. "2, and 3" and "2, sqrt(3)" go on.
_REASON = re.compile(
    r"[,;]\s+(?!(?:and|or|sqrt|pi|sin|cos|tan|log|ln)\b)(?=[A-Za-z]{2,})|;\s|\s[–—]\s|\s-\s(?!sqrt|sin|cos|tan|log)(?=[A-Za-z]{3,})|\s(?:->|→|⇒)\s"
    r"|\s(?=(?:because|since|as|so|which|where|when|if|after|for|due|given|we|i\.e|that|but)\b)",
    re.IGNORECASE,
)
_FILLER = re.compile(
    r"^(?:(?:therefore|thus|then|hence|approximately|about|around|roughly|exactly|simply|just|only|still|now|indeed"
    r"|also|equal to|equals|the number|the value|given by|found to be|to be)\b[\s,:]*|[:=]\s*)+",
    re.IGNORECASE,
)
_RETRACTED = re.compile(r"\W*(?:not|unknown|unclear|undetermined|undefined|impossible|cannot|can't)\b", re.IGNORECASE)
_EQUALS = re.compile(r"(?<![<>!:=≠≤≥])=(?!=)")


def retracts(statement: str) -> bool:
    """Whether a statement says that there is no answer, or what it isn't."""
    return _RETRACTED.match(statement) is not None


def stated_value(statement: str) -> str | None:
    """The value that `statement`, a line after "the answer is", begins with; None where that is no mathematics."""
    statement = _FILLER.sub("", statement)
    if delimited := _DELIMITED.match(statement):  # no reason stands within the delimiters
        return _after_equals(clean(next(part for part in delimited.groups() if part is not None))) or None
    said = _SENTENCE.split(statement.replace("**", "").replace("`", ""), maxsplit=1)[0]
    if _WORDS.match(said):
        return clean(said) or None
    said = clean(_REASON.split(said, maxsplit=1)[0])
    if (aside := re.match(r"(.+?)\s+\(.*$", said)) and read_number(aside.group(1)) is not None:
        said = aside.group(1)  # "5 (3 + 2 = 5)"
    if said.endswith(")") and "(" not in said and "[" not in said:
        said = clean(said[:-1])  # "(The answer is 5)"
    said = _after_equals(said)
    return said if said and _is_mathematics(said) else None


def _after_equals(text: str) -> str:
    """ "5 + 3 = 8" and "x = 8" state 8; "x = 2, y = 3" and "x = 2 or x = 3" state both."""
    if len(parts := _EQUALS.split(text)) < 2 or re.search(r",|\bor\b|\band\b|\\begin", text):
        return text
    last = parts[-1].strip()
    return last if last.count("(") == last.count(")") and last.count("{") == last.count("}") else text


def _is_mathematics(text: str) -> bool:
    """Whether this can be an answer: a sentence is none, though it may hold a number."""
    if not re.search(r"\d|\\", text):
        return False
    first = re.match(r"[A-Za-z]{2,}(?![A-Za-z])", text)
    return read_number(text) is not None or first is None or MATHEMATICAL.fullmatch(first.group()) is not None
