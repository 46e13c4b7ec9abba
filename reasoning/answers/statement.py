"""The value at the start of a statement about a mathematical answer: "72, because 48/2 = 24" states 72."""

import re

from branchwise.answers.languages import CONJUNCTION, ENDINGS, FILLERS, LIST_WORD, NEGATIONS, REASONS
from branchwise.answers.numbers import clean, read_number
from branchwise.answers.units import MATHEMATICAL

_END = r"(?![^\W\d_])"  # end of a word, in any script
_FOREIGN = r"[\u0400-\u1fff\u2c00-\ud7ff\uf900-\ufaff]"  # letters that name no variable
# "$x = 4$" at the beginning, unless it is one of several ("$2$ or $3$") or money ("$5 and $6").
_DELIMITED = re.compile(
    r"(?:\\\((?P<round>.+?)\\\)|\\\[(?P<square>.+?)\\\]|\$\$(?P<display>.+?)\$\$"
    r"|\$(?P<inline>[^\s$](?:[^$]*[^\s$])?|\s[^$]*\s)\$(?!\d))"
    rf"(?!\s*(?:,|{CONJUNCTION}|/|:)\s*(?:\\\(|[$\d]))"
)
_WORDS = re.compile(r"\\(?:text(?:bf|it)?|mathrm)\s*\{[^{}]+\}(?=[\s.]*$)")  # "\text{east}" is an answer in words
# End of a sentence. Several "!" are an exclamation; one in front of an operator or a full stop is a factorial.
_SENTENCE = re.compile(r"(?<!\\)(?P<mark>!{2,}[.!?]*|!(?![.!]|\s*[-+*/=^×·])\?*|[.?][.!?]*)[\"'*_)]*(?=\s|$)")
# Boundary between the value and its reason. "2, and 3" and "2, sqrt(3)" continue the value.
_REASON = re.compile(
    rf"[,;]\s+(?!{CONJUNCTION}|(?:sqrt|pi|sin|cos|tan|log|ln){_END})(?=[^\W\d_]{{2,}})|[,;]\s*(?={_FOREIGN})|;\s"
    r"|\s[–—]\s|\s-\s(?!sqrt|sin|cos|tan|log)(?=[A-Za-z]{3,})|\s(?:->|→|⇒)\s"
    r"|\s(?=(?:or so|because|since|as|so|which|where|when|if|after|for|due|given|we|i\.e|that|but|then)\b)"
    rf"|\s*(?<![^\W\d_])(?=(?:{REASONS})(?![a-zа-я]))",
    re.IGNORECASE,
)
_FILLER = re.compile(
    r"^(?:(?:therefore|thus|then|hence|approximately|about|around|roughly|exactly|simply|just|only|still|now|indeed"
    rf"|also|equal to|equals|the number|the value|given by|found to be|to be|{FILLERS}){_END}[\s,:]*|[:=]\s*)+",
    re.IGNORECASE,
)
_RETRACTED = re.compile(
    rf"\W*(?:not|unknown|unclear|undetermined|undefined|impossible|cannot|can't|{NEGATIONS}){_END}", re.IGNORECASE
)
_ENDING = re.compile(rf"(?:{ENDINGS})\W*$")
_LIST = re.compile(rf",|\\begin|\bor\b|\band\b|{LIST_WORD.pattern}", re.IGNORECASE)
_IMPLICIT = re.compile(r"\d\s*[a-z](?![A-Za-z])|(?<![A-Za-z\\])[a-z]\s*\^")  # "3x - y = 0", "x^2 + y^2 = 0"
# A word, or a letter that names no variable.
_WORD = re.compile(rf"[A-Za-z]{{2,}}(?![A-Za-z_])|[A-Za-z]*[À-ɏ]|{_FOREIGN}")
_TERM = r"[-+]?\(*[A-Za-z]['!]*\)*"
_LETTERS = re.compile(rf"{_TERM}(?:\s*[-+*/^=]\s*{_TERM})*")  # "x", "a + b", "n!"
_KEY = re.compile(r"[\"']\s*:")
_EQUALS = re.compile(r"(?<![<>!:=≠≤≥])=(?!=)")


def retracts(statement: str) -> bool:
    """Return True if a statement says that there is no answer, or what the answer is not."""
    return _RETRACTED.match(statement) is not None


def stated_value(statement: str) -> str | None:
    """Return the value at the start of a line after "the answer is"; None if it is not mathematics."""
    statement = _FILLER.sub("", statement)
    if delimited := _DELIMITED.match(statement):  # the delimiters contain no reason
        return _after_equals(clean(next(part for part in delimited.groups() if part is not None))) or None
    value = _first_sentence(statement.replace("**", "").replace("`", ""))
    if _WORDS.match(value):
        return clean(value) or None
    value = clean(_REASON.split(value, maxsplit=1)[0])
    if (remark := re.match(r"(.+?)\s+\(.*$", value)) and read_number(remark.group(1)) is not None:
        value = remark.group(1)  # "5 (3 + 2 = 5)"
    if value.endswith(")") and "(" not in value and "[" not in value:
        value = clean(value[:-1])  # "(The answer is 5)"
    value = _after_equals(value)
    return value if value and _is_mathematics(value) else None


def without_ending(text: str) -> str:
    """Remove a verb that follows the value in some languages: "42です" becomes "42"."""
    return _ENDING.sub("", text)


def _first_sentence(text: str) -> str:
    """Return the text before the end of its first sentence. "5! + 4!" ends with a factorial, "5!" does not."""
    end = _SENTENCE.search(text)
    if end is None:
        return without_ending(text)
    before = text[: end.start()]
    return without_ending(before) + ("!" if end["mark"] == "!" and "!" in before else "")


def _after_equals(text: str) -> str:
    """Return the right side of an equation: 8 for "x = 8" or "6 + 2 = 8".

    "x = 2, y = 3", "x = 2 or x = 3" and "3x - y = 0" stay whole.
    """
    if len(parts := _EQUALS.split(text)) < 2 or _LIST.search(text):
        return text
    last = parts[-1].strip()
    if last == "0" and _IMPLICIT.search(parts[0]):
        return text
    return last if last.count("(") == last.count(")") and last.count("{") == last.count("}") else text


def _is_mathematics(text: str) -> bool:
    """Return True if the text can be a mathematical answer; a sentence is not one, even if it contains a number."""
    if read_number(text) is not None or _LETTERS.fullmatch(text):
        return True
    first = _WORD.match(text)
    if _KEY.search(text):  # {"total": 72}
        return False
    return bool(re.search(r"[\d\\∞√π∅±ℝℤℚℕℂ]", text)) and (
        first is None or MATHEMATICAL.fullmatch(first.group()) is not None
    )
