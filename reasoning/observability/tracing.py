"""Spans of runs on the OpenTelemetry API.

invoke_agent STRATEGY        a question; child of the span that was current when it started
├── branchwise.window        branches that the strategy requested together
│   └── chat MODEL           a branch
├── branchwise.score         log-probabilities of given texts
└── branchwise.verify        the verifier's score of a path
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version

from branchwise.core.errors import MissingExtraError
from branchwise.driver import BranchGrew, RunEnded, RunEvent, RunStarted

try:
    from opentelemetry import context, propagate, trace

    from branchwise.observability.run_spans import RunSpans
except ImportError as error:
    raise MissingExtraError(error.name or "opentelemetry-api", "telemetry") from error

_CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


class Tracing:
    """Observer that turns events into spans. Any number of runs may share one.

        tracing = Tracing()
        result = await bw.solve(question, backend, observer=tracing)

    Without a `tracer_provider` the global provider receives the spans. With `content`, spans contain prompts, replies,
    answers and error texts; None reads the variable OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT, which is off by
    default.
    """

    standings = False

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        *,
        content: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` returns seconds; it times first tokens."""
        self._tracer = trace.get_tracer("branchwise", version("branchwise"), tracer_provider)
        self._content = captures_content() if content is None else content
        self._clock = clock
        self._runs: dict[int, RunSpans] = {}

    @property
    def open_runs(self) -> int:
        """Number of runs that have started and not ended."""
        return len(self._runs)

    def __call__(self, event: RunEvent) -> None:
        if isinstance(event, RunStarted):
            self._runs[event.run] = RunSpans(self._tracer, event, self._content, self._clock)
            return
        spans = self._runs.get(event.run)
        if spans is None:
            return
        if isinstance(event, BranchGrew):  # by far the most frequent event
            spans.grew(event)
            return
        try:
            if isinstance(event, RunEnded):
                del self._runs[event.run]
                spans.close()
            else:
                spans.take(event)
        except Exception:
            # The driver drops an observer that raised: no later event would end the open spans.
            self._runs.pop(event.run, None)
            with suppress(Exception):
                spans.close()
            raise


def captures_content() -> bool:
    """Return whether the environment asks for text in spans."""
    return os.environ.get(_CAPTURE, "").strip().lower() in ("true", "1", "span_only", "span_and_event")


@contextmanager
def remote_parent(headers: Mapping[str, str]) -> Iterator[None]:
    """Make spans children of the trace that a request's headers name (`traceparent`), if any.

    Header names are looked up in lower case.
    """
    token = context.attach(propagate.extract(headers))
    try:
        yield
    finally:
        context.detach(token)
