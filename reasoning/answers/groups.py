"""Groups of equivalent answers to one question. The driver assigns each finished branch's answer to a group."""

import asyncio

from branchwise.answers.equivalence import EQUIVALENCE, Equivalence
from branchwise.answers.formats import AnswerFormat
from branchwise.core.answer import Answer


class AnswerGroups:
    """Groups of equivalent answers, each named after the first answer assigned to it."""

    def __init__(self, format_: AnswerFormat, equivalence: Equivalence = EQUIVALENCE) -> None:
        self._format = format_
        self._equivalence = equivalence
        self._groups: dict[str, str] = {}  # normal form -> normal form of the first answer of its group
        self._names: dict[str, str] = {}  # normal form of a group's first answer -> display form

    async def place(self, text: str) -> Answer:
        """Return the answer `text` with its group's name as the value."""
        normal = self._format.normal(text)
        if normal not in self._groups:
            self._groups[normal] = await self._group_of(normal)
            self._names.setdefault(self._groups[normal], self._format.display(text))
        return Answer(self._names[self._groups[normal]], text)

    async def _group_of(self, normal: str) -> str:
        if self._format.is_symbolic(normal):
            for first in filter(self._format.is_symbolic, self._names):
                if await asyncio.to_thread(self._equivalence.same, first, normal):
                    return first
        return normal
