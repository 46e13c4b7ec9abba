"""Groups of equivalent answers to one question. The driver assigns each finished branch's answer to a group."""

from collections.abc import Callable, Hashable

from branchwise.answers.equivalence import EQUIVALENCE, Equivalence
from branchwise.answers.formats import AnswerFormat
from branchwise.answers.keys import Key
from branchwise.answers.meaning import Meaning, Vector
from branchwise.core.answer import Answer


class AnswerGroups:
    """Groups of equivalent answers, each named after the first answer assigned to it."""

    def __init__(
        self,
        format_: AnswerFormat,
        equivalence: Equivalence = EQUIVALENCE,
        seconds_left: Callable[[], float | None] = lambda: None,
    ) -> None:
        """Set the time left for comparisons, in seconds; None means that there is no limit."""
        self.format = format_
        """Format of the answers."""
        self._equivalence = equivalence
        self._seconds_left = seconds_left
        self._groups: dict[str, str] = {}  # normal form -> normal form of the first answer of its group
        self._names: dict[str, str] = {}  # normal form of a group's first answer -> display form
        self._by_main: dict[Hashable, str] = {}  # main key -> normal form of a group's first answer
        self._by_other: dict[Hashable, str] = {}
        self._vectors: dict[str, Vector] = {}  # embedding of each group's first answer, by its normal form
        self.has_unread = False
        """True if an answer was compared as text because its value took too long."""
        self.is_out_of_time = False
        """True if that was for lack of time left."""

    async def place(self, text: str) -> Answer:
        """Return the answer `text` with its group's name as the value."""
        normal = self.format.normal(text)
        if normal not in self._groups:
            self._groups[normal] = await self._group_of(normal)
            self._names.setdefault(self._groups[normal], self.format.display(text))
        return Answer(self._names[self._groups[normal]], text)

    async def _group_of(self, normal: str) -> str:
        if isinstance(self.format, Meaning):
            return await self._similar_group(normal, self.format)
        if not self.format.is_symbolic(normal):
            return normal
        reading = await self._equivalence.read_async(normal, self._seconds_left())
        if not reading.is_complete:
            left = self._seconds_left()
            self.has_unread = True
            self.is_out_of_time |= left is not None and left <= 0
        group = self._find(reading.key) or normal
        self._by_main.setdefault(reading.key.main, group)
        for other in reading.key.others:
            self._by_other.setdefault(other, group)
        return group

    async def _similar_group(self, normal: str, meaning: Meaning) -> str:
        vector = await meaning.vector(normal)
        group = meaning.nearest(vector, self._vectors)
        if group is None:
            group = normal
            self._vectors[group] = vector
        return group

    def _find(self, key: Key) -> str | None:
        """Return the first answer of the group that a key belongs to."""
        places = (self._by_main.get(key.main), self._by_other.get(key.main), *map(self._by_main.get, key.others))
        return next((place for place in places if place is not None), None)
