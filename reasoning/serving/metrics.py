"""Prometheus metrics of a server."""

import time

from branchwise.core.errors import MissingExtraError
from branchwise.driver import BranchEnded, BranchStarted, QuestionEnded, RunEnded, RunEvent, RunStarted
from branchwise.observability.outcomes import outcome_name
from branchwise.serving.queue import RequestQueue
from branchwise.serving.resolve import PLAIN

try:
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
except ImportError as error:
    raise MissingExtraError(error.name or "prometheus-client", "server") from error

_SECONDS_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
_TOKEN_KINDS = ("prompt", "reused", "prefilled", "sampled", "discarded", "drafted", "accepted", "scored")


class Metrics:
    """Counts requests through `count_request`, and questions as an observer of their runs.

    `branchwise_serving_cpu_seconds_total` is the CPU time of the thread that serves HTTP and drives the strategies; an
    engine computes in threads and processes of its own.
    """

    standings = False
    media_type = CONTENT_TYPE_LATEST

    def __init__(self, queue: RequestQueue, registry: CollectorRegistry | None = None) -> None:
        """Register the metrics in `registry`, by default one of their own."""
        registry = self._registry = registry or CollectorRegistry()
        self._queue = queue
        self._strategies: dict[int, str] = {}  # by run
        self._branches = set[tuple[int, int, int]]()
        self._requests = Counter("branchwise_requests", "Answered requests.", ("route", "status"), registry=registry)
        self._questions = Counter(
            "branchwise_questions", "Finished questions.", ("strategy", "outcome"), registry=registry
        )
        self._paths = Counter(
            "branchwise_paths",
            "Ended branches; kept means that the branch finished.",
            ("strategy", "kept"),
            registry=registry,
        )
        self._tokens = Counter("branchwise_tokens", "Tokens by kind of usage.", ("strategy", "kind"), registry=registry)
        self._seconds = Histogram(
            "branchwise_question_seconds",
            "Seconds per question, without the wait in the queue.",
            ("strategy",),
            buckets=_SECONDS_BUCKETS,
            registry=registry,
        )
        # The gauges are set, not computed when they are read: another process may read them, and add up all processes.
        self._running, self._queued, self._running_branches = (
            Gauge(f"branchwise_{name}", help_, registry=registry, multiprocess_mode="livesum")
            for name, help_ in (
                ("questions_running", "Running questions."),
                ("questions_queued", "Waiting questions."),
                ("branches_running", "Running branches."),
            )
        )
        queue.on_change = self._count_queue
        self._cpu = Counter("branchwise_serving_cpu_seconds", "CPU seconds of the serving thread.", registry=registry)
        self._counted_cpu = time.thread_time()

    def count_request(self, route: str, status: int) -> None:
        """Count an answered request."""
        self._requests.labels(route, str(status)).inc()

    def __call__(self, event: RunEvent) -> None:
        match event:
            case RunStarted(run=run, strategy=strategy, task=task):
                self._strategies[run] = PLAIN if task == PLAIN else strategy
            case RunEnded(run=run):
                self._strategies.pop(run, None)
            case BranchStarted(run=run, question=question, branch=branch):
                self._branches.add((run, question, branch))
                self._running_branches.set(len(self._branches))
            case BranchEnded(run=run, question=question, branch=branch, kept=kept):
                self._branches.discard((run, question, branch))
                self._running_branches.set(len(self._branches))
                self._paths.labels(self._strategies[run], str(kept).lower()).inc()
            case QuestionEnded():
                self._count_question(event)

    def text(self) -> bytes:
        """Return the metrics in Prometheus's text format. Call it in the serving thread."""
        self._count_cpu()
        return generate_latest(self._registry)

    def _count_queue(self) -> None:
        self._running.set(self._queue.running)
        self._queued.set(self._queue.queued)

    def _count_cpu(self) -> None:
        now = time.thread_time()
        self._cpu.inc(max(0.0, now - self._counted_cpu))
        self._counted_cpu = now

    def _count_question(self, event: QuestionEnded) -> None:
        self._count_cpu()
        strategy = self._strategies[event.run]
        self._questions.labels(strategy, outcome_name(event.outcome, event.raised)).inc()
        self._seconds.labels(strategy).observe(event.usage.seconds)
        for kind in _TOKEN_KINDS:
            self._tokens.labels(strategy, kind).inc(getattr(event.usage, kind))
