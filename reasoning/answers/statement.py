"""The value at the start of a statement about a mathematical answer: "72, because 48/2 = 24" states 72."""

import re

from branchwise.answers.numbers import clean, read_number
from branchwise.answers.units import MATHEMATICAL

# "$x = 4$" at the beginning, unless it is one of several ("$2$ or $3$") or money ("$5 and $6").
_DELIMITED = re.compile(
    r"(?:\\\((?P<round>.+?)\\\)|\\\[(?P<square>.+?)\\\]|\$\$(?P<display>.+?)\$\$"
    r"|\$(?P<inline>[^\s$](?:[^$]*[^\s$])?|\s[^$]*\s)\$(?!\d))(?!\s*(?:,|or\b|and\b|/|:)\s*(?:\\\(|[$\d]))"
)
_WORDS = re.compile(r"\\(?:text(?:bf|it)?|mathrm)\s*\{[^{}]+\}(?=[\s.]*$)")  # "\text{east}" is an answer in words
_SENTENCE = re.compile(r"(?<!\\)[.!?][\"'*_)]*(?=\s|$)")
# Boundary between the value and its reason. "2, and 3" and "2, sqrt(3)" continue the value.
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
    """Return True if a statement says that there is no answer, or what the answer is not."""
    return _RETRACTED.match(statement) is not None


def stated_value(statement: str) -> str | None:
    """Return the value at the start of a line after "the answer is"; None if it is not mathematics."""
    statement = _FILLER.sub("", statement)
    if delimited := _DELIMITED.match(statement):  # the delimiters contain no reason
        return _after_equals(clean(next(part for part in delimited.groups() if part is not None))) or None
    value = _SENTENCE.split(statement.replace("**", "").replace("`", ""), maxsplit=1)[0]
    if _WORDS.match(value):
        return clean(value) or None
    value = clean(_REASON.split(value, maxsplit=1)[0])
    if (remark := re.match(r"(.+?)\s+\(.*$", value)) and read_number(remark.group(1)) is not None:
        value = remark.group(1)  # "5 (3 + 2 = 5)"
    if value.endswith(")") and "(" not in value and "[" not in value:
        value = clean(value[:-1])  # "(The answer is 5)"
    value = _after_equals(value)
    return value if value and _is_mathematics(value) else None


def _after_equals(text: str) -> str:
    """Return the right side of an equation: 8 for "x = 8". "x = 2, y = 3" and "x = 2 or x = 3" stay whole."""
    if len(parts := _EQUALS.split(text)) < 2 or re.search(r",|\bor\b|\band\b|\\begin", text):
        return text
    last = parts[-1].strip()
    return last if last.count("(") == last.count(")") and last.count("{") == last.count("}") else text


def _is_mathematics(text: str) -> bool:
    """Return True if the text can be a mathematical answer; a sentence is not one, even if it contains a number."""
    if not re.search(r"\d|\\", text):
        return False
    first = re.match(r"[A-Za-z]{2,}(?![A-Za-z])", text)
    return read_number(text) is not None or first is None or MATHEMATICAL.fullmatch(first.group()) is not None
