"""Answers of one question, gathered into groups that mean the same."""

import asyncio

from branchwise.answers.equivalence import EQUIVALENCE, Equivalence
from branchwise.answers.formats import AnswerFormat
from branchwise.core.answer import Answer


class AnswerGroups:
    """Places answers one after another; a group is called after the first answer placed in it."""

    def __init__(self, format_: AnswerFormat, equivalence: Equivalence = EQUIVALENCE) -> None:
        self._format = format_
        self._equivalence = equivalence
        self._groups: dict[str, str] = {}  # normal form -> the normal form of the first in its group
        self._names: dict[str, str] = {}  # normal form of the first -> how the group is shown

    async def place(self, text: str) -> Answer:
        """The answer `text`, under its group's name."""
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
