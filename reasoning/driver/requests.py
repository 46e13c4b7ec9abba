"""Requests of a strategy in issue order, and the prompts they belong to.

The run issues requests and delivers their events to the strategy. The scheduler starts them and adds what arrives.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from branchwise.core.errors import BranchwiseError, ConfigError
from branchwise.core.keys import child_key
from branchwise.core.path import Path
from branchwise.core.usage import Usage
from branchwise.driver.branch import ActiveBranch
from branchwise.driver.results import QuestionState
from branchwise.prompts.task import Task
from branchwise.strategies.actions import Completion, Extend, Failed, Finished, Progress, Request


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """A prompt's question, and the task that reads the branches of the prompt."""

    question: QuestionState
    task: Task
    aside: bool = False


@dataclass(slots=True, eq=False)
class PendingRequest:
    """One branch, score, verification or prompt that was requested, until its completion is delivered."""

    action: Request
    origin: Origin
    key: int = 0
    """A branch's: the key of its sample."""
    after_refusal: bool = False
    """A branch requested after the strategy received a BudgetError. The run does not wait for it."""
    number: int = 0
    """Position in issue order."""
    branch: int | None = None
    """A branch's: its number."""
    lease: int = 0
    """Tokens that the budget granted."""
    lease_reduced: bool = False
    """True if the lease is less than the branch may need."""
    active: ActiveBranch | None = None
    """A branch's, once it was started."""
    cancelled: bool = False
    """True if the strategy cancelled it."""
    delivered: bool = False
    completion: Completion | None = None
    cost: Usage = field(default_factory=Usage)

    def finished(self, active: ActiveBranch) -> Finished:
        """Return the completion of a finished branch; its answer and steps are added on delivery."""
        assert isinstance(self.action, Extend)
        assert self.branch is not None
        return Finished(
            question=self.origin.question.index,
            action=self.action,
            branch=self.branch,
            path=active.path,
            answer=None,
            steps=(),
            cost=active.cost,
            aside=self.origin.aside,
        )

    def failed(self, error: BranchwiseError | None) -> Failed:
        """Return the completion of a failed request, or of a cancelled one if `error` is None."""
        return Failed(self.origin.question.index, self.action, self.branch, error, self.origin.aside)


class Arrival(NamedTuple):
    """An event of a request, on its way to the strategy."""

    request: PendingRequest
    event: Completion | Progress


@dataclass(slots=True)
class RequestQueue:
    """Every request of a run in issue order. Completions are delivered in that order, Progress as it arrives.

    The order of delivery depends on the order of arrivals alone, not on how many arrive at once: arrivals are
    processed one at a time, and every completion that is then due is delivered before the next arrival.
    """

    branches: list[PendingRequest] = field(default_factory=list)
    """By branch number."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when something arrived."""
    outstanding: int = 0
    """Requests whose completion was not delivered, except branches requested after a refusal."""
    _requests: list[PendingRequest] = field(default_factory=list)
    _delivered: int = 0
    _arrivals: deque[Arrival] = field(default_factory=deque)

    def add(self, request: PendingRequest) -> None:
        if isinstance(request.action, Extend):
            request.branch = len(self.branches)
            self.branches.append(request)
        request.number = len(self._requests)
        self._requests.append(request)
        if not request.after_refusal:
            self.outstanding += 1

    def arrive(self, request: PendingRequest, event: Completion | Progress) -> None:
        """Add an event of a started request."""
        self._arrivals.append(Arrival(request, event))
        self.changed.set()

    def next(self) -> Arrival | None:
        """Return the next event to deliver, or None until more arrives."""
        while True:
            if self._delivered < len(self._requests):
                request = self._requests[self._delivered]
                if request.completion is not None:
                    return self._deliver(request, request.completion)
            if not self._arrivals:
                return None
            arrival = self._arrivals.popleft()
            if not isinstance(arrival.event, Progress):
                arrival.request.completion = arrival.event
            elif not arrival.request.cancelled:
                return arrival

    def incomplete(self) -> list[PendingRequest]:
        """Return the requests without a completion, once all arrivals are processed. Drops Progress that waits."""
        self._process_arrivals()
        return [request for request in self._requests[self._delivered :] if request.completion is None]

    def drain(self) -> Iterator[Arrival]:
        """Yield the completion of every request left, once the scheduler has halted; without one, a request failed."""
        self._process_arrivals()
        while self._delivered < len(self._requests):
            request = self._requests[self._delivered]
            yield self._deliver(request, request.completion or request.failed(None))

    def _process_arrivals(self) -> None:
        for request, event in self._arrivals:
            if not isinstance(event, Progress):
                request.completion = event
        self._arrivals.clear()

    def _deliver(self, request: PendingRequest, completion: Completion) -> Arrival:
        self._delivered += 1
        request.delivered = True
        request.completion = completion
        if not request.after_refusal:
            self.outstanding -= 1
        return Arrival(request, completion)


@dataclass(slots=True)
class Roots:
    """The prompts of a run, and the keys of the samples that continue their paths."""

    _origins: dict[Path, Origin] = field(default_factory=dict)
    _samples: dict[tuple[int, int], int] = field(default_factory=dict)  # count by question and the path's key
    _resumed: set[tuple[int, int, int, int]] = field(default_factory=set)

    def add(self, path: Path, origin: Origin) -> Path:
        """Register a prompt; return the path that represents it in this run."""
        if path in self._origins:  # a backend may return one path object for equal prompts
            path = replace(path)
        self._origins[path] = origin
        return path

    def origin(self, path: Path) -> Origin:
        """Return the origin of the path's prompt. Raises ConfigError for a path of another run."""
        if path.root not in self._origins:
            raise ConfigError("path", "is of another run", "use paths from this run's roots and events")
        return self._origins[path.root]

    def sample_keys(self, action: Extend) -> list[int]:
        """Return the keys of the samples that `action` requests: unused so far, unless it resumes one.

        Samples are counted for each question separately, so that equal questions in a run get the samples that each
        gets alone. Raises ConfigError if the path can't be resumed.
        """
        path, question = action.path, self.origin(action.path).question.index
        if action.resume:
            position = (question, path.key, path.generated, len(path.whole_text))
            if path.parent is None or position in self._resumed:
                raise ConfigError("Extend.resume", "the path is a prompt, or was resumed before", "start a new sample")
            self._resumed.add(position)
            return [path.key]
        first = self._samples.get((question, path.key), 0)
        self._samples[question, path.key] = first + action.count
        return [child_key(path.key, first + i) for i in range(action.count)]
