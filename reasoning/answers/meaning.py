"""Answers that are equal if their embeddings are similar, for replies without a common form."""

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from branchwise.answers.formats import AnswerFormat
from branchwise.core.errors import ConfigError, require
from branchwise.core.validation import finite_number, shortened, wrong_type

Vector = Sequence[float]
Embed = Callable[[str], Vector | Awaitable[Vector]]
"""Returns the embedding of a text; sync or async. A plain function is called in a thread."""


@dataclass(frozen=True, slots=True)
class Meaning(AnswerFormat):
    """The answers of another format, equal if the cosine of their embeddings is at least `similarity`.

    An answer joins the first group to whose first answer it is most similar, so groups depend on the order of paths.
    """

    embed: Embed
    similarity: float
    base: AnswerFormat

    def __post_init__(self) -> None:
        if not callable(self.embed):
            raise wrong_type("embed", self.embed, "use a function of a text that returns its embedding")
        value = finite_number("similarity", self.similarity, "use a number above -1, at most 1")
        require(-1 < value <= 1, "similarity", f"is {value}", "use a number above -1, at most 1")

    def extract(self, text: str) -> str | None:
        return self.base.extract(text)

    def extract_cut(self, text: str) -> str | None:
        return self.base.extract_cut(text)

    def normal(self, answer: str) -> str:
        return self.base.display(answer)  # what is embedded keeps its capitals and articles

    def display(self, answer: str) -> str:
        return self.base.display(answer)

    async def vector(self, text: str) -> Vector:
        """Return the embedding with length 1. Raises ConfigError if it is no vector of finite numbers."""
        is_async = inspect.iscoroutinefunction(self.embed)
        found = self.embed(text) if is_async else await asyncio.to_thread(self.embed, text)
        if inspect.isawaitable(found):
            found = await found
        try:
            values = [float(value) for value in found]
        except TypeError as error:
            raise wrong_type("embed", found, "return a sequence of numbers") from error
        length = math.hypot(*values)
        if not (math.isfinite(length) and length > 0):
            raise ConfigError("embed", f"returned {shortened(values)}", "return finite numbers that are not all 0")
        return [value / length for value in values]

    def nearest(self, vector: Vector, groups: Mapping[str, Vector]) -> str | None:
        """Return the group whose embedding is most similar to `vector`, or None if none is similar enough."""
        cosines = {name: sum(a * b for a, b in zip(vector, other, strict=True)) for name, other in groups.items()}
        best = max(cosines, key=lambda name: cosines[name], default=None)
        return None if best is None or cosines[best] < self.similarity else best
