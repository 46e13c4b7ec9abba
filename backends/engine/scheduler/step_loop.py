"""The step loop: one thread that runs the model, one packed pass after another.

A tick: take in new jobs and cancels, begin what there is room for, compute one packed pass, draw one
token for every branch, hand out what came of it. Branches of any number of questions join and leave at
every tick. A job that fails takes only its own branches with it.
"""

import threading
from collections.abc import Sequence

import torch
from torch import Tensor

from branchwise.backends.engine.cache.kv_pool import Pool
from branchwise.backends.engine.cache.radix_tree import TokenTree
from branchwise.backends.engine.cache.snapshots import Snapshots
from branchwise.backends.engine.failures import closed, failed, no_memory
from branchwise.backends.engine.model.causal_lm import EngineModel
from branchwise.backends.engine.scheduler.admission import Admission
from branchwise.backends.engine.scheduler.batch import Batch, Chunk, PoolFullError
from branchwise.backends.engine.scheduler.inbox import Inbox
from branchwise.backends.engine.scheduler.jobs import Job, LiveBranch, ScoreJob, StartJob
from branchwise.backends.engine.scheduler.outbox import Outbox, answer
from branchwise.backends.engine.scheduler.scoring import score
from branchwise.backends.engine.speculation.drafting import Drafting
from branchwise.backends.engine.speculation.verify import Verify, Walk, walk
from branchwise.backends.stream import Broken, Ended, Tokens
from branchwise.core.errors import BackendError
from branchwise.core.path import StopReason


class StepLoop(threading.Thread):
    """Owns the model, what is held and everything that runs: all of it is touched in this thread only."""

    def __init__(
        self,
        model: EngineModel,
        tree: TokenTree,
        pool: Pool,
        snapshots: Snapshots,
        ends: frozenset[int],
        most: int,
        chunk: int,
        drafting: Drafting | None = None,
        verify: Verify = walk,
    ) -> None:
        """`ends`: tokens that end a branch; `most`: branches in a pass; `chunk`: prompt tokens in a pass."""
        super().__init__(name="branchwise-engine", daemon=True)
        self.model, self.pool, self.snapshots, self.ends = model, pool, snapshots, ends
        self.tree = tree
        self.batch = Batch(model, tree, pool, most, ends, drafting, verify)
        self.waiting = Admission(self.batch, snapshots, chunk)
        self.inbox, self.outbox = Inbox(), Outbox()

    def close(self) -> None:
        """End every branch and the thread."""
        self.inbox.close()
        if self.ident is not None and threading.current_thread() is not self:
            self.join()

    @torch.inference_mode()
    def run(self) -> None:
        while self._take_in():
            try:
                self._tick()
            except Exception as error:  # whatever it was, the loop goes on
                self._break_all(error)
            self._flush()
        for branch in self._branches():
            self._break(branch, closed())
        for job in self.waiting.jobs:
            if isinstance(job, ScoreJob):
                answer(job, closed())
        self._flush()

    def _take_in(self) -> bool:
        """Wait for work and take it in; False when the loop must end."""
        taken = self.inbox.take(wait=not (self.waiting.jobs or self.batch.running))
        for job in taken.jobs:
            self.waiting.add(job)
        for branch in taken.cancelled:
            self._end(branch, StopReason.CANCELLED)
        for tokens in taken.forgotten:
            if tokens is None:
                self.tree.evict(self.tree.size)
                continue
            place = self.tree.match(tokens)
            if place.depth >= len(tokens) - 1:  # a path's last token is drawn, but never computed
                self.tree.forget(place)
        return not taken.closing

    def _branches(self) -> list[LiveBranch]:
        """Every branch that runs or waits."""
        jobs = [job for job in self.waiting.jobs if isinstance(job, StartJob)]
        return [*self.batch.running, *(branch for job in jobs for branch in job.open())]

    # A tick

    def _tick(self) -> None:
        chunks = self.waiting.admit(self._begin)
        while self.batch.running or chunks:
            try:
                self._step(chunks)
                return
            except PoolFullError:
                chunks = self._make_room(chunks)
            except Exception as error:
                if not chunks:
                    self._break_running(error)
                    return
                for chunk in chunks:  # without them, the pass may well succeed
                    self._fail(chunk.job, error)
                chunks = []

    def _begin(self, job: Job) -> None:
        """Start branches of a job whose tokens are held, or score."""
        try:
            if isinstance(job, StartJob):
                self._start(job)
            elif isinstance(job, ScoreJob):
                answer(job, score(self.model, self.tree, self.pool, job, self._logits(job)))
                self.waiting.remove(job)
                self.waiting.crowded = False
        except PoolFullError:
            self.waiting.crowded = True
            if not self.waiting.let_go() and not self.batch.running:
                self._fail(job, no_memory())
        except Exception as error:
            self._fail(job, error)

    def _start(self, job: StartJob) -> None:
        """Draw the first token of as many waiting branches as there is room for."""
        assert job.cursor is not None
        logits = self._logits(job)
        starting = job.waiting[: self.batch.room]
        job.waiting = job.waiting[len(starting) :]
        for branch in starting:
            job.charge(branch)
            branch.cursor = self.tree.fork(job.cursor)
            branch.state, branch.hidden = job.state, job.hidden
            self.batch.running.append(branch)
        walks = [Walk(branch, job.depth, 0) for branch in starting]
        self.batch.verify(logits, walks, self.ends)
        self._hand_out(walks)
        if not job.waiting:
            self.waiting.remove(job)

    def _logits(self, job: Job) -> Tensor:
        """Logits [1, vocabulary] after a job's tokens: those just computed, or again from what the head read."""
        if job.logits is None:
            hidden = job.hidden
            if hidden is None:
                assert self.pool.hidden is not None
                assert job.cursor is not None
                run, offset = job.cursor.place
                hidden = self.pool.hidden[run.slots[offset - 1]][None]
            job.logits = self.model.logits_of(hidden)
        return job.logits

    def _step(self, chunks: Sequence[Chunk]) -> None:
        done = self.batch.step(chunks)
        for chunk, row in zip(chunks, done.chunks, strict=True):
            self._keep(chunk.job)
            if chunk.job.depth == len(chunk.job.tokens):
                chunk.job.logits = done.logits[row : row + 1].clone()
        self._hand_out(done.walks)

    def _keep(self, owner: Job | LiveBranch) -> None:
        """Keep a recurrent model's state behind a held token, for whoever goes on from there."""
        if owner.state is not None and owner.hidden is not None and owner.cursor is not None:
            self.tree.mark(owner.cursor.place, self.snapshots.add(owner.state, owner.hidden))

    def _hand_out(self, walks: Sequence[Walk]) -> None:
        """Give every branch the tokens it drew."""
        for one in walks:
            try:
                self._add(one)
            except Exception as error:
                self._break(one.branch, failed(error))

    def _add(self, drew: Walk) -> None:
        """A branch has drawn tokens; those after a stop are dropped."""
        branch, taken = drew.branch, 0
        ends: list[int] = []
        reason = None
        for choice in drew.choices:
            branch.drawn.append(choice.token)
            ends.append(len(branch.text.text) if choice.token in self.ends else branch.text.push(choice.token))
            taken += 1
            reason = self._reason(branch, choice.token)
            if reason is not None:
                break
        choices = drew.choices[:taken]
        branch.accepted.update(drew.draft.nodes[node].drafter for node in drew.accepted[:taken])
        text = branch.text.take(reason is not None)
        tokens, logprobs = tuple(c.token for c in choices), tuple(c.logprob for c in choices)
        alternatives = tuple(c.alternatives for c in choices) if branch.sampling.logprobs else None
        self.outbox.put(branch.extension, Tokens(branch.copy, tokens, text, tuple(ends), logprobs, alternatives))
        if self.batch.drafting is not None:
            self.batch.drafting.learn(drew, taken)
        if reason is not None:
            self._end(branch, reason)

    def _reason(self, branch: LiveBranch, token: int) -> StopReason | None:
        """Why a branch ends behind the token it drew, if it does."""
        if token in self.ends:
            return StopReason.END
        if branch.text.stopped:
            return StopReason.STOP
        return StopReason.LENGTH if len(branch.drawn) >= (branch.sampling.max_tokens or 1) else None

    # Ends

    def _end(self, branch: LiveBranch, reason: StopReason) -> None:
        if self._leave(branch):
            cost = branch.cost(discarded=reason is StopReason.CANCELLED)
            self.outbox.put(branch.extension, Ended(branch.copy, reason, cost, branch.text.trimmed))

    def _break(self, branch: LiveBranch, error: BackendError) -> None:
        if self._leave(branch):
            self.outbox.put(branch.extension, Broken(branch.copy, error, branch.cost(discarded=True)))

    def _leave(self, branch: LiveBranch) -> bool:
        """Take a branch out of whatever it is in; False when it was out already."""
        if branch.done:
            return False
        branch.done = True
        if self.batch.drafting is not None:
            self.batch.drafting.leave(branch)
        if branch.cursor is not None:
            self._keep(branch)
            self.batch.running.remove(branch)
            self.tree.release(branch.cursor)
            branch.cursor = branch.state = branch.hidden = None
            self.waiting.crowded = False
            return True
        for job in self.waiting.jobs:
            # The last branch of a job to go before any has begun is charged what was computed for it.
            if isinstance(job, StartJob) and branch in job.waiting and not job.open() and not job.begun:
                job.charge(branch)
        return True

    def _make_room(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """Every slot is stood on. The jobs that wait give up theirs, then their turn; then the branch that came last
        gives way to the others. The chunks to try again with."""
        self.waiting.crowded = True
        if self.waiting.let_go():
            return []
        last = max(self.batch.running, key=lambda b: (b.priority, b.order, b.copy), default=None)
        if last is None:
            for chunk in chunks[:1]:
                self._fail(chunk.job, no_memory())
        elif not chunks and len(self.batch.running) > 1:
            self.waiting.preempt(last)
        elif not chunks:
            self._break(last, no_memory())
        return []

    def _fail(self, job: Job, error: Exception) -> None:
        """A job alone failed."""
        if isinstance(job, StartJob):
            for branch in job.open():
                self._break(branch, failed(error))
        elif isinstance(job, ScoreJob):
            answer(job, failed(error))
        if job in self.waiting.jobs:
            self.waiting.remove(job)

    def _break_running(self, error: Exception) -> None:
        for branch in list(self.batch.running):
            self._break(branch, failed(error))

    def _break_all(self, error: Exception) -> None:
        for branch in self._branches():
            self._break(branch, failed(error))
        for job in list(self.waiting.jobs):
            self._fail(job, error)

    def _flush(self) -> None:
        orphans = self.outbox.flush()
        for branch in self._branches() if orphans else ():
            if branch.extension in orphans:
                self._leave(branch)
