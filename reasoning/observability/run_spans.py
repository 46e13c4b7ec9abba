"""Spans of one run."""

from collections.abc import Callable
from contextvars import Token

from opentelemetry import context
from opentelemetry.context import Context
from opentelemetry.trace import Tracer

from branchwise.driver import (
    BranchEnded,
    BranchGrew,
    BranchStarted,
    QuestionEnded,
    QuestionStarted,
    RequestEnded,
    RequestStarted,
    RunEvent,
    RunStarted,
)
from branchwise.observability.question_spans import QuestionSpans


class RunSpans:
    """Opens and closes spans as a run's events arrive.

    A question that is alone in its run is the current span while it runs, so spans that its backend or verifier opens
    become its children.
    """

    def __init__(self, tracer: Tracer, run: RunStarted, content: bool, clock: Callable[[], float]) -> None:
        self._tracer, self._run, self._content, self._clock = tracer, run, content, clock
        self._parent = context.get_current()
        self._token: Token[Context] | None = None
        self._questions: dict[int, QuestionSpans] = {}

    def grew(self, event: BranchGrew) -> None:
        """Handle new tokens of a branch."""
        self._questions[event.question].grew(event.branch)

    def take(self, event: RunEvent) -> None:
        """Handle any other event of a question."""
        match event:
            case QuestionStarted(question=question):
                spans = QuestionSpans(self._tracer, self._run, self._parent, self._content, self._clock)
                self._questions[question] = spans
                if self._run.questions == 1:
                    self._token = context.attach(spans.inside)
            case QuestionEnded(question=question):
                self._questions.pop(question).end(event)
            case BranchStarted(question=question):
                self._questions[question].start_branch(event)
            case BranchEnded(question=question):
                self._questions[question].end_branch(event)
            case RequestStarted(question=question):
                self._questions[question].start_request(event)
            case RequestEnded(question=question):
                self._questions[question].end_request(event)

    def close(self) -> None:
        """End every open span; the run is over."""
        try:
            while self._questions:
                self._questions.popitem()[1].close()
        finally:
            if self._token is not None:
                token, self._token = self._token, None
                context.detach(token)
