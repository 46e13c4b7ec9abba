"""What a server has done, for Prometheus."""

import time

from branchwise.core.errors import MissingExtraError
from branchwise.driver import BranchEnded, BranchStarted, QuestionEnded, RunEnded, RunEvent, RunStarted
from branchwise.observability.outcomes import outcome_name
from branchwise.serving.queue import Queue

try:
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
except ImportError as error:
    raise MissingExtraError(error.name or "prometheus-client", "server") from error

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
_TOKENS = ("prompt", "reused", "prefilled", "sampled", "discarded", "drafted", "accepted", "scored")
PLAIN = "plain"


class Metrics:
    """Counts requests as it is told of them, and questions as an observer of their runs.

    `branchwise_serving_cpu_seconds_total` is the processor time of the thread that serves and drives the strategies;
    an engine computes in threads and processes of its own.
    """

    standings = False
    media_type = CONTENT_TYPE_LATEST

    def __init__(self, queue: Queue) -> None:
        registry = self._registry = CollectorRegistry()
        self._runs: dict[int, str] = {}
        self._branches = set[tuple[int, int, int]]()
        self._requests = Counter(
            "branchwise_requests", "Requests that were answered.", ("route", "status"), registry=registry
        )
        self._questions = Counter(
            "branchwise_questions", "Questions that are over.", ("strategy", "outcome"), registry=registry
        )
        self._paths = Counter(
            "branchwise_paths", "Branches that ended; kept ones finished.", ("strategy", "kept"), registry=registry
        )
        self._tokens = Counter(
            "branchwise_tokens", "Tokens by their place in the ledger.", ("strategy", "kind"), registry=registry
        )
        self._seconds = Histogram(
            "branchwise_question_seconds", "Seconds from a question's turn to its answer.",
            ("strategy",), buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        running = Gauge("branchwise_questions_running", "Questions that are being answered.", registry=registry)
        running.set_function(lambda: queue.running)
        queued = Gauge("branchwise_questions_queued", "Questions that wait for their turn.", registry=registry)
        queued.set_function(lambda: queue.queued)
        branches = Gauge("branchwise_branches_running", "Branches that the model goes on with.", registry=registry)
        branches.set_function(lambda: len(self._branches))
        self._cpu = Counter(
            "branchwise_serving_cpu_seconds", "Processor seconds of the thread that serves.", registry=registry
        )
        self._spent = time.thread_time()

    def request(self, route: str, status: int) -> None:
        """A request was answered."""
        self._requests.labels(route, str(status)).inc()

    def __call__(self, event: RunEvent) -> None:
        match event:
            case RunStarted(run=run, strategy=strategy, task=task):
                self._runs[run] = PLAIN if task == PLAIN else strategy
            case RunEnded(run=run):
                self._runs.pop(run, None)
            case BranchStarted(run=run, question=question, branch=branch):
                self._branches.add((run, question, branch))
            case BranchEnded(run=run, question=question, branch=branch, kept=kept):
                self._branches.discard((run, question, branch))
                self._paths.labels(self._runs[run], str(kept).lower()).inc()
            case QuestionEnded():
                self._question(event)

    def text(self) -> bytes:
        """What Prometheus reads. Call it in the thread that serves."""
        now = time.thread_time()
        self._cpu.inc(max(0.0, now - self._spent))
        self._spent = now
        return generate_latest(self._registry)

    def _question(self, event: QuestionEnded) -> None:
        strategy = self._runs[event.run]
        self._questions.labels(strategy, outcome_name(event.outcome, event.raised)).inc()
        self._seconds.labels(strategy).observe(event.usage.seconds)
        for kind in _TOKENS:
            self._tokens.labels(strategy, kind).inc(getattr(event.usage, kind))
