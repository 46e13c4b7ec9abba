"""Keys of mathematical answers: two answers are equal if their keys are.

A key is made of the answer's structure (structure.py), exact numbers, and the fingerprints that worker.py computes for
expressions. An answer without any of them is compared as text. So n answers take n readings rather than n²
comparisons, and equality is transitive, except where `Key.others` is used.
"""

import re
from collections.abc import Hashable
from dataclasses import dataclass

from branchwise.answers.characters import plain
from branchwise.answers.notation import to_latex
from branchwise.answers.numbers import clean, read_number
from branchwise.answers.special import special_key
from branchwise.answers.structure import COMMANDS, ELISION, Evaluate, StructureReader, as_text
from branchwise.answers.units import MATHEMATICAL, is_unit

_MAX_LENGTH = 1_000  # characters; longer answers are compared as text
_MAX_BRACKETS = 100
_THOUSANDS = re.compile(r"(?<![\d.,(\[{])\d{1,3}(?:,\d{3})+(?=[A-Za-z]|\s*\\(?:pi|sqrt|cdot|times|frac)(?![A-Za-z]))")


@dataclass(frozen=True, slots=True)
class Key:
    """The key of an answer."""

    main: Hashable
    others: frozenset[Hashable] = frozenset()
    """Main keys of answers that equal this one, and perhaps not each other: that of "2516" for "2516_8"."""

    def equals(self, other: "Key") -> bool:
        """Return True if the answers are equal."""
        return self.main == other.main or self.main in other.others or other.main in self.others


def key_of(answer: str, evaluate: Evaluate) -> Key:
    """Return the key of an answer."""
    text = clean(plain(answer))
    if (number := read_number(text)) is not None:
        return Key(("number", number))
    if len(text) > _MAX_LENGTH or sum(map(text.count, "([{")) > _MAX_BRACKETS:
        return Key(as_text(text))
    if (special := special_key(text)) is not None:
        return Key(*special)
    text = _THOUSANDS.sub(lambda found: found[0].replace(",", ""), _without_unit(text))
    if _is_words(text):
        return Key(("words", " ".join(text.casefold().split())))
    structure = StructureReader(evaluate)
    if ELISION.search(text):
        return Key(structure.elided(text))
    latex = to_latex(text)
    return Key(structure.answer(latex), structure.other_keys(latex))


def _without_unit(text: str) -> str:
    """Remove the units: "3\\pi square units" becomes "3\\pi". Single letters stay because they may be variables."""
    measured = re.fullmatch(r"(?P<value>.*[\d\\].*?)\s+(?P<unit>[A-Za-z]{2,}(?:[\s/^]+(?:[A-Za-z]{2,}|\d))*)", text)
    if measured is None or re.search(r"[A-Za-z]{2}", COMMANDS.sub(" ", measured["value"])):
        return text  # "2 hours and 30 minutes"
    if re.search(r"\\(?!pi|infty)[A-Za-z]+$", measured["value"]):
        return text  # "\\angle ABC"
    if re.match(r"deg", measured["unit"]) and re.search(r"\\(?:sin|cos|tan|cot|sec|csc)", measured["value"]):
        return measured["value"] + "^\\circ"
    return measured["value"] if is_unit(measured["unit"], apart=True) else text


def _is_words(text: str) -> bool:
    """Return True for words; the parser would read "listen" as a product that equals "silent"."""
    if re.fullmatch(r"[A-Za-z]{2,}", text):
        return not MATHEMATICAL.fullmatch(text)
    if re.search(r"\d\s*(?<!\\)\b(?!or\b|and\b|x\b)[A-Za-z]{1,3}\s+\d", COMMANDS.sub(" ", text)):  # "5 ft 3 in"
        return True
    words = re.findall(r"[A-Za-z]{4,}", COMMANDS.sub(" ", text))
    return any(not MATHEMATICAL.fullmatch(word) for word in words)
