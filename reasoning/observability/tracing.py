"""Spans of runs, on the OpenTelemetry API.

invoke_agent STRATEGY        a question, under whatever span was current when it was asked
├── branchwise.window        branches that the strategy asked for together
│   └── chat MODEL           a branch
├── branchwise.score         log-probabilities of given texts
└── branchwise.verify        the verifier's opinion of a path
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
    """An observer that makes spans of what it is told; any number of runs may share one.

        tracing = Tracing()
        result = await bw.solve(question, backend, observer=tracing)

    Without a `tracer_provider` the global one gets the spans, and where there is none, nothing is kept. `content` says
    whether spans hold prompts, replies, answers and what errors say; None asks the variable
    OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT, and without that it is no.
    """

    standings = False

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        *,
        content: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` gives seconds; first tokens are timed by it."""
        self._tracer = trace.get_tracer("branchwise", version("branchwise"), tracer_provider)
        self._content = captures_content() if content is None else content
        self._clock = clock
        self._runs: dict[int, RunSpans] = {}

    @property
    def open_runs(self) -> int:
        """Runs that have begun and not ended."""
        return len(self._runs)

    def __call__(self, event: RunEvent) -> None:
        if isinstance(event, RunStarted):
            self._runs[event.run] = RunSpans(self._tracer, event, self._content, self._clock)
            return
        spans = self._runs.get(event.run)
        if spans is None:
            return
        if isinstance(event, BranchGrew):  # by far the most frequent
            spans.grew(event)
            return
        try:
            if isinstance(event, RunEnded):
                del self._runs[event.run]
                spans.close()
            else:
                spans.take(event)
        except Exception:
            # Told nothing more after this: what is open must end now.
            self._runs.pop(event.run, None)
            with suppress(Exception):
                spans.close()
            raise


def captures_content() -> bool:
    """Whether the environment asks for text in spans."""
    return os.environ.get(_CAPTURE, "").strip().lower() in ("true", "1", "span_only", "span_and_event")


@contextmanager
def remote_parent(headers: Mapping[str, str]) -> Iterator[None]:
    """Inside, spans belong to the trace that a request's headers name (`traceparent`), if they name one.

    Names are looked up in lower case.
    """
    token = context.attach(propagate.extract(headers))
    try:
        yield
    finally:
        context.detach(token)
