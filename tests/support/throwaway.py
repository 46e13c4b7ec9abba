"""Throwaway strategies, for tests of the driver."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import branchwise as bw


@dataclass
class Log:
    """A throwaway strategy's state: its roots, and what it was told."""

    roots: Sequence[bw.Path]
    told: list[bw.Event] = field(default_factory=list)
    asked: int = 0


class Throwaway(bw.Strategy[Log]):
    """Asks what `plan` says, given the log; answers with the first finished branch of each question."""

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
        state.told.append(event)

    def finish(self, state: Log) -> Sequence[bw.Decision]:
        decisions = []
        for question in range(len(state.roots)):
            found = [e.answer for e in state.told if isinstance(e, bw.Finished) and e.question == question]
            decisions.append(bw.Decision(next(filter(None, found), None), None))
        return decisions


def once(*actions: Callable[[Log], bw.Action]) -> Throwaway:
    """Ask everything at the start."""

    def plan(log: Log) -> Sequence[bw.Action]:
        if log.asked:
            return ()
        log.asked = 1
        return [action(log) for action in actions]

    return Throwaway(plan)


def ended(log: Log) -> list[tuple[int | None, str]]:
    """The branches told of their ends, in order, and what came of each."""
    return [
        (e.branch, "kept" if isinstance(e, bw.Finished) else type(e.error).__name__ if e.error else "cancelled")
        for e in log.told
        if isinstance(e, bw.Finished | bw.Failed)
    ]
