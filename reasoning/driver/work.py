"""The work of a run: one item for every branch, score, check and prompt a strategy asked for."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from branchwise.actions import Extend, Failed, Finished, Request, Rooted, Scored, Verified
from branchwise.driver.grow import Growth

Completion = Finished | Scored | Verified | Rooted | Failed


@dataclass(slots=True, eq=False)
class Item:
    """One thing asked for. It is queued, then running, then done: `event` says what came of it."""

    action: Request
    question: int
    branch: int | None = None
    key: int = 0
    granted: int = 0  # tokens leased
    growth: Growth | None = None
    copy: int = 0
    running: bool = False
    unwanted: bool = False  # cancelled by the strategy before it started
    event: Completion | None = None


@dataclass(slots=True)
class WorkList:
    """Every item in the order in which it was asked for, and which of them have been told."""

    items: list[Item] = field(default_factory=list)
    branches: list[Item] = field(default_factory=list)
    queued: list[Item] = field(default_factory=list)
    _told: int = 0

    def add(self, item: Item) -> None:
        if isinstance(item.action, Extend):
            item.branch = len(self.branches)
            self.branches.append(item)
        self.items.append(item)
        self.queued.append(item)

    @property
    def open(self) -> bool:
        """Whether anything is queued or running, or done and not told."""
        return self._told < len(self.items)

    @property
    def running(self) -> list[Item]:
        return [item for item in self.items[self._told :] if item.running]

    def ready(self) -> Iterator[Completion]:
        """Completions to tell now: in the order of asking, up to the first that is not done."""
        while self._told < len(self.items):
            event = self.items[self._told].event
            if event is None:
                return
            self._told += 1
            yield event

    def rest(self) -> Iterator[Completion]:
        """Completions behind items that will never be done, once a run has been halted."""
        late = self.items[self._told :]
        self._told = len(self.items)
        for item in late:
            if item.event is not None:
                yield item.event
