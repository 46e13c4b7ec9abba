"""The spans of one run."""

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
    """Opens and closes spans as a run's events come.

    A question that is alone in its run is current while it runs: what its backend or its verifier traces by itself
    belongs to it, too.
    """

    def __init__(self, tracer: Tracer, run: RunStarted, content: bool, clock: Callable[[], float]) -> None:
        self._tracer, self._run, self._content, self._clock = tracer, run, content, clock
        self._outside = context.get_current()
        self._token: Token[Context] | None = None
        self._questions: dict[int, QuestionSpans] = {}

    def grew(self, event: BranchGrew) -> None:
        """New tokens."""
        self._questions[event.question].grew(event.branch)

    def take(self, event: RunEvent) -> None:
        """Any other event of a question."""
        match event:
            case QuestionStarted(question=question):
                spans = QuestionSpans(self._tracer, self._run, self._outside, self._content, self._clock)
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
        """The run is over: end whatever is open."""
        try:
            while self._questions:
                self._questions.popitem()[1].close()
        finally:
            if self._token is not None:
                token, self._token = self._token, None
                context.detach(token)
