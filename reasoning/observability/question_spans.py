"""Spans of one question: its own, and those of its branches, scores and verifications. `run_spans` owns them."""

from collections.abc import Callable
from dataclasses import dataclass, field

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from branchwise.core.result import Outcome
from branchwise.core.usage import Usage
from branchwise.driver import (
    BranchEnded,
    BranchStarted,
    QuestionEnded,
    RequestEnded,
    RequestStarted,
    RunStarted,
)
from branchwise.observability import attributes
from branchwise.observability.attributes import Attribute
from branchwise.observability.outcomes import outcome_name
from branchwise.strategies.actions import Extend, Score


@dataclass(slots=True, eq=False)
class _Window:
    """Branches requested together. Refused branches end without having started."""

    left: int
    """Branches that have not ended."""
    span: Span | None = None
    inside: Context | None = None
    branches: dict[int, Span] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)

    def end(self) -> None:
        for branch in self.branches.values():
            branch.set_attribute("branchwise.outcome", "cancelled")
            branch.end()
        if self.span is not None:
            self.span.set_attributes(attributes.of_ledger(self.usage))
            self.span.end()


class QuestionSpans:
    """Spans of one question, created when work on it starts."""

    def __init__(
        self, tracer: Tracer, run: RunStarted, parent: Context, content: bool, clock: Callable[[], float]
    ) -> None:
        """`parent` holds the parent span; with `content`, spans may contain text."""
        self._tracer, self._run, self._content, self._clock = tracer, run, content, clock
        values = attributes.of_question(run)
        self._span = tracer.start_span(f"invoke_agent {run.strategy}", parent, attributes=values)
        self.inside = trace.set_span_in_context(self._span, parent)
        """Context with the question's own span."""
        self._windows: dict[Extend, _Window] = {}
        self._opened = 0  # number of windows
        self._requests: dict[int, Span] = {}
        self._waiting: dict[int, tuple[Span, float]] = {}  # branches without a token yet, and their start time
        self._prompted = False

    def start_branch(self, event: BranchStarted) -> None:
        window = self._window(event.action)
        sampling = attributes.of_sampling(event.sampling)
        if window.span is None:
            self._opened += 1
            opening: dict[str, Attribute] = {
                "branchwise.window": self._opened,
                "branchwise.branches": event.action.count,
                "branchwise.prefix_tokens": event.action.path.generated,
                **sampling,
            }
            window.span = self._tracer.start_span("branchwise.window", self.inside, attributes=opening)
            window.inside = trace.set_span_in_context(window.span, self.inside)
        values: dict[str, Attribute] = {
            "gen_ai.operation.name": "chat",
            **attributes.of_model(self._run),
            **sampling,
            "branchwise.branch": event.branch,
            "branchwise.aside": event.aside,
        }
        span = self._tracer.start_span(f"chat {self._run.model}", window.inside, SpanKind.CLIENT, values)
        window.branches[event.branch] = span
        self._waiting[event.branch] = (span, self._clock())
        if self._content:
            self._show_prompt(span, event)

    def grew(self, branch: int) -> None:
        """Record the time to a branch's first token."""
        if (waiting := self._waiting.pop(branch, None)) is not None:
            span, began = waiting
            span.set_attribute("gen_ai.response.time_to_first_chunk", self._clock() - began)

    def end_branch(self, event: BranchEnded) -> None:
        window = self._window(event.action)
        window.left -= 1
        window.usage += event.cost
        self._waiting.pop(event.branch, None)
        if (span := window.branches.pop(event.branch, None)) is not None:
            span.set_attributes(attributes.of_usage(event.cost))
            span.set_attribute("branchwise.answered", event.answer is not None)
            if event.path is not None:
                span.set_attributes(attributes.of_end(event.path, self._run.model))
                if self._content:
                    span.set_attributes(attributes.of_reply(event.path))
            self._close(span, event.kept, event.error)
        if window.left == 0:
            del self._windows[event.action]
            window.end()

    def start_request(self, event: RequestStarted) -> None:
        if isinstance(event.action, Score):
            values: dict[str, Attribute] = {"gen_ai.operation.name": "score", **attributes.of_model(self._run)}
            span = self._tracer.start_span("branchwise.score", self.inside, SpanKind.CLIENT, values)
        else:
            span = self._tracer.start_span("branchwise.verify", self.inside)
        self._requests[event.request] = span

    def end_request(self, event: RequestEnded) -> None:
        if (span := self._requests.pop(event.request, None)) is not None:
            if event.cost != Usage():
                span.set_attributes(attributes.of_usage(event.cost))
            self._close(span, event.done, event.error)

    def end(self, event: QuestionEnded) -> None:
        """End the question's span with its outcome and usage."""
        decision, span = event.decision, self._span
        span.set_attributes(attributes.of_usage(event.usage))
        answer = None if decision is None else decision.answer
        span.set_attribute("branchwise.answered", answer is not None)
        if decision is not None and decision.confidence is not None:
            span.set_attribute("branchwise.confidence", decision.confidence)
        if self._content and answer is not None:
            span.set_attribute("branchwise.answer", answer.value)
        span.set_attribute("branchwise.outcome", outcome_name(event.outcome, event.raised))
        if event.raised is not None:
            self._fail(span, event.raised)
        elif event.outcome is Outcome.FAILED:
            self._fail(span, event.errors[0] if event.errors else None)
        self.close()

    def close(self) -> None:
        """End every open span."""
        for span in self._requests.values():
            self._close(span, False, None)
        for window in self._windows.values():
            window.end()
        self._span.end()

    def _window(self, action: Extend) -> _Window:
        return self._windows.setdefault(action, _Window(action.count))

    def _show_prompt(self, span: Span, event: BranchStarted) -> None:
        """Attach the prompt: an aside's to its own span, the question's prompt once to the question's span."""
        prompt = event.action.path.root.messages
        if prompt is not None and event.aside:
            span.set_attributes(attributes.of_prompt(prompt))
        elif prompt is not None and not self._prompted:
            self._prompted = True
            self._span.set_attributes(attributes.of_prompt(prompt))

    def _close(self, span: Span, done: bool, error: Exception | None) -> None:
        """End a span as finished, failed or cancelled."""
        span.set_attribute("branchwise.outcome", "finished" if done else "cancelled" if error is None else "failed")
        if error is not None:
            self._fail(span, error)
        span.end()

    def _fail(self, span: Span, error: BaseException | None) -> None:
        """Mark a span as failed. Error texts may quote prompts or replies, so only `content` includes them."""
        span.set_attribute("error.type", "_OTHER" if error is None else type(error).__name__)
        span.set_status(Status(StatusCode.ERROR, str(error) if self._content and error is not None else None))
