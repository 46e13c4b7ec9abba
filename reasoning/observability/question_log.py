"""One log line for every question."""

import logging

from pydantic import JsonValue

from branchwise.core.result import Outcome
from branchwise.driver import QuestionEnded, RunEnded, RunEvent, RunStarted
from branchwise.observability.logs import emit, trace_ids
from branchwise.observability.outcomes import outcome_name

_LOG = logging.getLogger("branchwise.questions")


class QuestionLog:
    """Observer that logs the end of every question: its outcome and cost, never its text. Runs may share one."""

    standings = False

    def __init__(self, logger: logging.Logger = _LOG) -> None:
        self._logger = logger
        self._runs: dict[int, RunStarted] = {}

    def __call__(self, event: RunEvent) -> None:
        if isinstance(event, RunStarted):
            self._runs[event.run] = event
        elif isinstance(event, RunEnded):
            self._runs.pop(event.run, None)
        elif isinstance(event, QuestionEnded):
            succeeded = event.raised is None and event.outcome is not Outcome.FAILED
            emit(self._logger, logging.INFO if succeeded else logging.WARNING, "question", self._fields(event))

    def _fields(self, event: QuestionEnded) -> dict[str, JsonValue]:
        run, decision, usage = self._runs[event.run], event.decision, event.usage
        errors = [*event.errors, *([] if event.raised is None else [event.raised])]
        return {
            "strategy": run.strategy,
            "model": run.model,
            "task": run.task,
            "outcome": outcome_name(event.outcome, event.raised),
            "answered": decision is not None and decision.answer is not None,
            "confidence": None if decision is None else decision.confidence,
            "seconds": round(usage.seconds, 3),
            "prompt": usage.prompt,
            "reused": usage.reused,
            "sampled": usage.sampled,
            "discarded": usage.discarded,
            "errors": list(dict.fromkeys(type(error).__name__ for error in errors)),
            **trace_ids(),
        }
