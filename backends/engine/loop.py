"""The step loop: one thread that runs the model, one packed pass after another.

A tick: take in new jobs and cancels, admit what there is room for, compute one packed pass, draw
one token for every branch, hand out what came of it. Branches of any number of questions join and
leave at every tick. A job that fails takes only its own branches with it.
"""

import contextlib
import heapq
import itertools
import threading
from collections import deque
from collections.abc import Iterable

import torch
from torch import Tensor

from branchwise.backends.base import Scores
from branchwise.backends.engine.batch import Batch, Chunk
from branchwise.backends.engine.branch import Branch, ExtendJob, Input, Job, ScoreJob
from branchwise.backends.engine.model import EngineModel
from branchwise.backends.engine.outbox import Outbox
from branchwise.backends.engine.sampler import Draw, Drawn, draw
from branchwise.backends.engine.scoring import score
from branchwise.backends.engine.store import PoolFullError, Store
from branchwise.backends.extension import Broken, Ended, Tokens
from branchwise.errors import BackendError
from branchwise.path import StopReason, TopLogprob


class StepLoop(threading.Thread):
    """Owns the model, the store and everything that runs. `submit`, `cancel`, `forget` and `close`
    may be called from any thread; everything else happens in this one."""

    def __init__(self, model: EngineModel, store: Store, ends: frozenset[int], rows: int, chunk: int) -> None:
        super().__init__(name="branchwise-engine", daemon=True)
        self.model, self.store, self.ends, self.chunk = model, store, ends, chunk
        self.batch = Batch(model, store, rows)
        self.outbox = Outbox()
        self._queue: list[tuple[int, int, Job]] = []  # heap: priority, order of arrival
        self._order = itertools.count()
        self._wake = threading.Condition()
        self._submitted: deque[Job] = deque()
        self._cancelled: deque[Branch] = deque()
        self._forgotten: deque[tuple[int, ...] | None] = deque()
        self._closing = False

    def submit(self, job: Job) -> None:
        with self._wake:
            if self._closing:
                raise BackendError("the engine is closed", retryable=False, hint="load it again")
            self._submitted.append(job)
            self._wake.notify()

    def cancel(self, branch: Branch) -> None:
        with self._wake:
            self._cancelled.append(branch)
            self._wake.notify()

    def forget(self, paths: Iterable[tuple[int, ...]] | None) -> None:
        """Let these paths go first when room is needed; None: drop all that nothing runs on, now."""
        with self._wake:
            if paths is None:
                self._forgotten.append(None)
            else:
                self._forgotten.extend(paths)
            self._wake.notify()

    def close(self) -> None:
        """End every branch and the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self.ident is not None and threading.current_thread() is not self:
            self.join()

    @torch.inference_mode()
    def run(self) -> None:
        while self._take_in():
            try:
                self._tick()
            except Exception as error:  # a failing request never stops the loop
                self._break_all(error)
            self._flush()
        for branch in [*self.batch.running, *self._waiting()]:
            self._end(branch, StopReason.CANCELLED)
        for _, _, job in self._queue:
            if isinstance(job, ScoreJob):
                _post(job, BackendError("the engine was closed", retryable=False, hint="load it again"))
        self._flush()

    # Taking in

    def _take_in(self) -> bool:
        """Wait for work and take it in; False when the loop must end."""
        with self._wake:
            while not (self._inbox or self._queue or self.batch.running or self._closing):
                self._wake.wait()
            submitted, cancelled, forgotten = list(self._submitted), list(self._cancelled), list(self._forgotten)
            self._submitted.clear()
            self._cancelled.clear()
            self._forgotten.clear()
        for job in submitted:
            heapq.heappush(self._queue, (job.priority, next(self._order), job))
        for branch in cancelled:
            self._end(branch, StopReason.CANCELLED)
        for tokens in forgotten:
            if tokens is None:
                self.store.clear()
                continue
            node = self.store.match(tokens)
            if node.depth >= len(tokens) - 1:  # a path's last token is drawn, but never computed
                self.store.forget(node)
        return not self._closing

    @property
    def _inbox(self) -> bool:
        return bool(self._submitted or self._cancelled or self._forgotten)

    def _waiting(self) -> list[Branch]:
        return [b for _, _, job in self._queue if isinstance(job, ExtendJob) for b in job.waiting]

    def _admit(self) -> Job | None:
        """Start every waiting branch whose input is held; the first job whose input must be computed."""
        while self._queue:
            job = self._queue[0][2]
            if isinstance(job, ExtendJob):
                job.waiting = [b for b in job.waiting if not b.done]
                if not job.waiting:
                    self._leave_queue(job)
                    continue
                if not self.batch.room:
                    return None
            if job.input is None:
                job.input = self._begin(job.tokens)
            if job.input.done < len(job.tokens):
                return job
            if isinstance(job, ScoreJob):
                self._score(job, job.input)
                self._leave_queue(job)
            else:
                self._start(job, self._logits(job.input))
        return None

    def _begin(self, tokens: tuple[int, ...]) -> Input:
        """What is held of `tokens`, so that logits after the last one can be had."""
        node = self.store.match(tokens)
        if node.depth == len(tokens) and not (node.readable and self.model.can_reread):
            assert node.parent is not None
            node = node.parent
        node.running += 1
        return Input(tokens, node, node.depth)

    def _logits(self, given: Input) -> Tensor:
        """Logits [1, vocabulary] after a held input: those just computed, or again from what the head read."""
        if given.logits is not None:
            return given.logits
        assert self.store.hidden is not None
        return self.model.logits_of(self.store.hidden[given.node.slot][None])

    def _leave_queue(self, job: Job) -> None:
        heapq.heappop(self._queue)
        if job.input is not None:
            job.input.node.running -= 1

    def _start(self, job: ExtendJob, logits: Tensor) -> None:
        """Draw the first token of as many waiting branches as there is room for. logits [1, vocabulary]."""
        assert job.input is not None
        starting = job.waiting[: self.batch.room]
        job.waiting = job.waiting[len(starting) :]
        for branch in starting:
            branch.reused, branch.prefilled = job.input.held, len(job.tokens) - job.input.held
            branch.passes += job.input.passes
            job.input.held, job.input.passes = len(job.tokens), 0.0  # the others reuse all of it
            self.batch.join(branch, job.input.node)
        self._take(starting, logits.expand(len(starting), -1))
        if not job.waiting:
            self._leave_queue(job)

    # Running

    def _tick(self) -> None:
        job = self._admit()
        chunk = None
        if job is not None and job.input is not None:
            chunk = Chunk(job.input, job.tokens[job.input.done : job.input.done + self.chunk])
        if not self.batch.running and chunk is None:
            return
        running = list(self.batch.running)
        try:
            logits = self.batch.step(chunk)
        except PoolFullError:
            self._make_room(job)
            return
        share = 1.0 / (len(running) + (len(chunk.tokens) if chunk else 0))
        for branch in running:
            branch.passes += share
        if chunk is not None:
            chunk.input.passes += share * len(chunk.tokens)
        self._take(running, logits[: len(running)])
        if job is not None and job.input is not None and job.input.done == len(job.tokens):
            job.input.logits = logits[-1:].clone()
            if isinstance(job, ExtendJob):
                self._start(job, job.input.logits)

    def _take(self, branches: list[Branch], logits: Tensor) -> None:
        """Draw and hand out the next token of each branch."""
        if not branches:
            return
        draws = [Draw(b.sampling, b.key, b.node.depth) for b in branches if b.node is not None]
        drawn = draw(logits, draws)
        tokens, logprobs = drawn.tokens.tolist(), drawn.logprobs.tolist()
        shown = _alternatives(drawn)
        for i, branch in enumerate(branches):
            count = branch.sampling.logprobs
            self._grow(branch, tokens[i], logprobs[i], shown[i][:count] if count else ())

    def _grow(self, branch: Branch, token: int, logprob: float, top: tuple[TopLogprob, ...]) -> None:
        branch.sampled += 1
        branch.pending = token
        end = len(branch.text.text) if token in self.ends else branch.text.push(token)
        reason = None
        if token in self.ends:
            reason = StopReason.END
        elif branch.text.stopped:
            reason = StopReason.STOP
        elif branch.sampled >= (branch.sampling.max_tokens or 1):
            reason = StopReason.LENGTH
        text = branch.text.take(reason is not None)
        self.outbox.put(
            branch.job.extension,
            Tokens(branch.copy, (token,), text, (end,), (logprob,), (top,) if branch.sampling.logprobs else None),
        )
        if reason is not None:
            self._end(branch, reason)

    def _end(self, branch: Branch, reason: StopReason) -> None:
        if branch.done:
            return
        branch.done = True
        self.batch.leave(branch)
        self._charge_unstarted(branch)
        cost = branch.cost(discarded=reason is StopReason.CANCELLED)
        self.outbox.put(branch.job.extension, Ended(branch.copy, reason, cost))

    def _charge_unstarted(self, branch: Branch) -> None:
        """The last branch of a job to end before any started is charged what was computed of their input."""
        job = branch.job
        if job.input is None or branch not in job.waiting or any(not b.done for b in job.waiting):
            return
        branch.reused, branch.prefilled = job.input.held, job.input.done - job.input.held
        branch.passes += job.input.passes
        job.input.held, job.input.passes = job.input.done, 0.0

    def _score(self, job: ScoreJob, given: Input) -> None:
        try:
            result = score(self.model, self.store, given, job.continuations, self._logits(given))
        except PoolFullError:
            _post(job, _no_memory())
            return
        _post(job, result)

    # Trouble

    def _make_room(self, job: Job | None) -> None:
        """Every slot is held by a running branch: the one that came last gives way."""
        if self.batch.running:
            self._break(self.batch.running[-1], _no_memory())
        elif isinstance(job, ExtendJob):
            for branch in list(job.waiting):
                self._break(branch, _no_memory())
        elif job is not None:
            self._leave_queue(job)
            _post(job, _no_memory())

    def _break(self, branch: Branch, error: BackendError) -> None:
        if branch.done:
            return
        branch.done = True
        self.batch.leave(branch)
        self._charge_unstarted(branch)
        self.outbox.put(branch.job.extension, Broken(branch.copy, error, branch.cost(discarded=True)))

    def _break_all(self, error: Exception) -> None:
        """A pass failed: whatever took part in it, or waited first in line, is told."""
        broken = BackendError(
            f"the engine failed in a step ({type(error).__name__}: {error})",
            retryable=isinstance(error, torch.OutOfMemoryError),
            hint="report this with the model's name",
        )
        for branch in list(self.batch.running):
            self._break(branch, broken)
        if self._queue:
            job = self._queue[0][2]
            if isinstance(job, ExtendJob):
                for branch in list(job.waiting):
                    self._break(branch, broken)
            else:
                self._leave_queue(job)
                _post(job, broken)

    def _flush(self) -> None:
        orphans = self.outbox.flush()
        for branch in [*self.batch.running, *self._waiting()] if orphans else ():
            if branch.job.extension in orphans:
                branch.done = True
                self.batch.leave(branch)


def _alternatives(drawn: Drawn) -> list[tuple[TopLogprob, ...]]:
    tokens, logprobs = drawn.top_tokens.tolist(), drawn.top_logprobs.tolist()
    return [tuple(map(TopLogprob, *row)) for row in zip(tokens, logprobs, strict=True)]


def _no_memory() -> BackendError:
    return BackendError(
        "memory: every held token belongs to a running branch",
        retryable=True,
        hint="raise the engine's memory setting, or run fewer branches at once",
    )


def _post(job: ScoreJob, result: Scores | BackendError) -> None:
    with contextlib.suppress(RuntimeError):  # the asker's event loop is closed: nobody waits any more
        job.loop.call_soon_threadsafe(_resolve, job, result)


def _resolve(job: ScoreJob, result: Scores | BackendError) -> None:
    if job.future.done():
        return
    if isinstance(result, BackendError):
        job.future.set_exception(result)
    else:
        job.future.set_result(result)
