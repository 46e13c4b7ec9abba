"""Prompts with an exact number of tokens: worked problems, then one to solve."""

from itertools import cycle, islice
from pathlib import Path

from tokenizers import Tokenizer

from branchwise.prompts.exemplars import ARITHMETIC

_QUESTION = (
    "Q: A bakery sells 48 loaves in the morning and half as many in the afternoon. A loaf costs 3 dollars, "
    "and a third of the money pays for flour. How much is left, and how would you check it?\n"
    "A: Let's think step by step."
)


class Prompts:
    """Prompts for a model. Each number's prompt differs in its first tokens, so no cached prefix serves two."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def make(self, number: int, tokens: int) -> list[int]:
        """Return prompt `number` as `[tokens]` token ids."""
        start = number % len(ARITHMETIC)
        body = self._encode(_QUESTION)
        for exemplar in islice(cycle(ARITHMETIC), start, None):
            if len(body) >= tokens:
                break
            body = self._encode(f"Q: {exemplar.question}\nA: {exemplar.solution}\n\n") + body
        opening = self._encode(f"{number}. ")
        return (opening + body[len(body) - tokens + len(opening) :])[-tokens:]

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)
