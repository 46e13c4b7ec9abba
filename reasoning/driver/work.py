"""The work of a run: one item for every branch, score, check and prompt that was asked for."""

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from branchwise.core.errors import BranchwiseError
from branchwise.core.usage import Usage
from branchwise.driver.growth import Growth
from branchwise.driver.roots import Origin
from branchwise.strategies.actions import Completion, Extend, Failed, Progress, Request


@dataclass(slots=True, eq=False)
class Item:
    """One thing asked for. It waits, runs, and is done when `event` says what came of it."""

    action: Request
    origin: Origin
    number: int = 0
    """Its place in the order in which things were asked for."""
    branch: int | None = None
    key: int = 0
    hopeless: bool = False
    """A branch asked for though the strategy was told that the budget is spent."""
    lease: int = 0  # tokens
    short: bool = False  # the lease is less than the branch may need
    growth: Growth | None = None
    cancelled: bool = False  # by the strategy
    told: bool = False
    event: Completion | None = None
    cost: Usage = field(default_factory=Usage)

    def failed(self, error: BranchwiseError | None) -> Failed:
        return Failed(self.origin.account.question, self.action, self.branch, error, self.origin.aside)


class Told(NamedTuple):
    """What the strategy is to be told next, and the item it is about."""

    item: Item
    event: Completion | Progress


class _Arrival(NamedTuple):
    item: Item
    event: Completion | Progress
    cost: Usage


@dataclass(slots=True)
class WorkList:
    """Every item in the order in which it was asked for, and which of them have been told.

    What is told next depends on the order of arrivals alone, not on how many came at a time: each is
    taken in by itself, and every completion that is then due comes before the next.
    """

    items: list[Item] = field(default_factory=list)
    branches: list[Item] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    live: int = 0
    """Items that were not told, the hopeless ones left out."""
    _told: int = 0
    _arrivals: deque[_Arrival] = field(default_factory=deque)

    def add(self, item: Item) -> None:
        if isinstance(item.action, Extend):
            item.branch = len(self.branches)
            self.branches.append(item)
        item.number = len(self.items)
        self.items.append(item)
        self.live += not item.hopeless

    def arrive(self, item: Item, event: Completion | Progress, cost: Usage | None = None) -> None:
        """Something came of an item under way."""
        self._arrivals.append(_Arrival(item, event, cost or Usage()))
        self.changed.set()

    def next(self) -> Told | None:
        """What to tell now; None until more arrives."""
        while True:
            if self._told < len(self.items) and (event := self.items[self._told].event) is not None:
                return self._tell(self.items[self._told], event)
            if not self._arrivals:
                return None
            item, arrived, cost = self._arrivals.popleft()
            if not isinstance(arrived, Progress):
                item.event, item.cost = arrived, cost
            elif not item.cancelled:
                return Told(item, arrived)

    def take_in(self) -> None:
        """Everything that has arrived, and no more Progress: the run has been halted."""
        while self._arrivals:
            item, arrived, cost = self._arrivals.popleft()
            if not isinstance(arrived, Progress):
                item.event, item.cost = arrived, cost

    def open(self) -> list[Item]:
        """Items that were not told."""
        return self.items[self._told :]

    def rest(self) -> Iterator[Told]:
        """The end of every item, once a run has been halted; those that came to none failed without an error."""
        self.take_in()
        while self._told < len(self.items):
            item = self.items[self._told]
            yield self._tell(item, item.event or item.failed(None))

    def _tell(self, item: Item, event: Completion) -> Told:
        self._told += 1
        item.told, item.event = True, event
        self.live -= not item.hopeless
        return Told(item, event)
