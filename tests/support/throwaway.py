"""Throwaway strategies for tests of the driver."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import branchwise as bw


@dataclass
class Log:
    """State of a throwaway strategy: its roots and the events it received."""

    roots: Sequence[bw.Path]
    events: list[bw.Event] = field(default_factory=list)
    requested: int = 0
    """A counter for the plan's own use."""


class Throwaway(bw.Strategy[Log]):
    """Requests the actions that `plan` returns. The first finished branch of a question answers it."""

    name = "throwaway"

    def __init__(self, plan: Callable[[Log], Sequence[bw.Action]]) -> None:
        self.plan = plan
        self.log = Log(())

    def start(self, roots: Sequence[bw.Path]) -> Log:
        self.log = Log(roots)
        return self.log

    def ask(self, state: Log) -> Sequence[bw.Action]:
        return self.plan(state)

    def tell(self, state: Log, event: bw.Event) -> None:
        state.events.append(event)

    def finish(self, state: Log) -> Sequence[bw.Decision]:
        decisions = []
        for question in range(len(state.roots)):
            answers = [e.answer for e in state.events if isinstance(e, bw.Finished) and e.question == question]
            decisions.append(bw.Decision(next(filter(None, answers), None), None))
        return decisions


def once(*actions: Callable[[Log], bw.Action]) -> Throwaway:
    """Return a strategy that requests everything at the start."""

    def plan(log: Log) -> Sequence[bw.Action]:
        if log.requested:
            return ()
        log.requested = 1
        return [action(log) for action in actions]

    return Throwaway(plan)


def ended(log: Log) -> list[tuple[int | None, str]]:
    """Return the branches whose end was delivered, in order, each with "kept", "cancelled" or its error's type."""
    return [
        (e.branch, "kept" if isinstance(e, bw.Finished) else type(e.error).__name__ if e.error else "cancelled")
        for e in log.events
        if isinstance(e, bw.Finished | bw.Failed)
    ]
