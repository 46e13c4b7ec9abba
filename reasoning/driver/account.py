"""The account of one question: what it has cost and given so far, and what cut it short."""

from dataclasses import dataclass, field, replace

from branchwise.answers.groups import AnswerGroups
from branchwise.core.answer import Answer
from branchwise.core.errors import BranchwiseError, BudgetError, CallError
from branchwise.core.path import Path
from branchwise.core.result import Outcome
from branchwise.core.usage import Usage
from branchwise.prompts.task import Task
from branchwise.strategies.actions import Completion, Failed, Finished


@dataclass(slots=True, eq=False)
class Account:
    """One question of a run."""

    number: int
    """Its place among the run's questions."""
    groups: AnswerGroups
    question: int
    """Its place among the roots the strategy started with."""
    root: Path | None = None
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    finished: list[Finished] = field(default_factory=list)
    errors: list[BranchwiseError] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    """What was degraded, each once."""
    cut: Outcome | None = None
    """What ended the work on it too early; None where the strategy got all it asked for."""
    refused: bool = False
    """Whether its strategy was told that the budget is spent."""

    def cut_short(self, why: Outcome) -> None:
        """Remember the first reason; but what was stopped is not done, whatever it could not pay for before."""
        self.cut = why if self.cut is None or why is Outcome.CANCELLED else self.cut

    def note(self, words: str) -> None:
        self.notes[words] = None

    async def settle(self, event: Completion, cost: Usage, task: Task) -> Completion:
        """Charge what an item cost and keep what it gave; a finished branch comes back with its answer."""
        if isinstance(event, Finished):
            event = await self._read(event, task)
        self.usage += cost.lost() if isinstance(event, Failed) else cost
        if isinstance(event, Finished) and not event.aside:
            self.finished.append(event)
        elif isinstance(event, Failed) and isinstance(event.error, BudgetError):
            self.refused = True  # no error: the outcome says it
        elif isinstance(event, Failed) and event.error is not None:
            self.errors.append(event.error)
        return event

    async def _read(self, event: Finished, task: Task) -> Finished | Failed:
        """A branch's end with its answer and steps; it failed where the task can't read it."""
        try:
            text = task.extract(event.path)
            answer = None
            if text is not None:
                # An aside's answer is no vote on the question: nothing is equivalent to it.
                answer = Answer(task.format.normal(text), text) if event.aside else await self.groups.place(text)
            return replace(event, answer=answer, steps=task.steps(event.path))
        except Exception as error:  # a format may be the user's code, and a model's text may be anything
            failure = CallError(f"task {task.name}", error)
            return Failed(event.question, event.action, event.branch, failure, event.aside)
