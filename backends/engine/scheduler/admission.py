"""Admission: the queue of waiting requests, and the decision which of them start or prefill in a step."""

import bisect
import itertools
from collections.abc import Callable

from branchwise.backends.engine.branch import EngineBranch
from branchwise.backends.engine.cache.snapshots import SnapshotCache
from branchwise.backends.engine.scheduler.batch import Batch, PrefillChunk
from branchwise.backends.engine.scheduler.requests import GenerateRequest, Request


class Admission:
    """Waiting requests by priority, then by arrival. Owned by the step loop."""

    def __init__(self, batch: Batch, snapshots: SnapshotCache, prefill_chunk: int) -> None:
        """`prefill_chunk`: maximum number of prompt tokens in one pass, over all requests."""
        self.requests: list[Request] = []
        self.memory_full = False
        """True after the pool ran out of slots. Nothing is admitted until a branch has ended; while none runs, only the
        first request is."""
        self._batch = batch
        self._snapshots = snapshots
        self._prefill_chunk = prefill_chunk
        self._arrivals = itertools.count()

    def add(self, request: Request) -> None:
        if request.arrival < 0:
            request.arrival = next(self._arrivals)
            for branch in request.waiting if isinstance(request, GenerateRequest) else ():
                branch.arrival = request.arrival
        bisect.insort(self.requests, request, key=lambda waiting: (waiting.priority, waiting.arrival))

    def remove(self, request: Request) -> None:
        self.requests.remove(request)
        request.unpin(self._batch.tree)

    def preempt(self, branch: EngineBranch) -> None:
        """Unpin a running branch and queue it again. It continues with the same tokens once they are computed again."""
        assert branch.cursor is not None
        self._batch.running.remove(branch)
        self._batch.tree.release(branch.cursor)
        branch.cursor = branch.state = branch.hidden = None
        tokens = (*branch.prefix, *branch.sampled)
        self.add(GenerateRequest(tokens, branch.priority, branch.arrival, waiting=[branch]))

    def admit(self, start: Callable[[Request], None]) -> list[PrefillChunk]:
        """Call `start` with every admitted request whose tokens are cached. Return the chunks to prefill for others.

        `start` removes a request from the queue once all of it has started.
        """
        batch, budget = self._batch, self._prefill_chunk
        chunks: list[PrefillChunk] = []
        prefilled: set[tuple[int, int, int]] = set()
        available = batch.available
        for request in self._candidates():
            if isinstance(request, GenerateRequest):
                if not request.open_branches():
                    self.remove(request)
                    continue
                if available <= 0:
                    continue
            if batch.model.recurrent:
                request.pin_snapshot(batch.tree, self._snapshots)
            else:
                request.pin_prefix(batch.tree, batch.model.logits_from_hidden)
            assert request.cursor is not None
            if request.depth == len(request.tokens):
                start(request)
                available = min(available, batch.available)
                continue
            if isinstance(request, GenerateRequest):
                available -= len(request.waiting)
            # A prefix that two requests share is computed for the first; the second finds it in the next step.
            position = (id(request.cursor.node), request.cursor.offset, request.tokens[request.depth])
            if budget > 0 and position not in prefilled:
                prefilled.add(position)
                chunks.append(PrefillChunk(request, request.tokens[request.depth : request.depth + budget]))
                budget -= len(chunks[-1].tokens)
        return chunks

    def unpin(self) -> bool:
        """Unpin the tokens of all waiting requests, except the first one while no branch runs.

        Return whether any were pinned.
        """
        first = 0 if self._batch.running else 1
        pinned = [request for request in self.requests[first:] if request.cursor is not None]
        for request in pinned:
            request.unpin(self._batch.tree)
        return bool(pinned)

    def _candidates(self) -> list[Request]:
        if not self.memory_full:
            return list(self.requests)
        return [] if self._batch.running else self.requests[:1]
