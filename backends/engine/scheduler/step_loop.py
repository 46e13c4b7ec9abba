"""The step loop: the thread that runs the model, one packed forward pass after another.

A step receives inputs, admits requests, computes one pass over all running branches and prefill chunks, samples a token
for every branch and emits the events. Branches of any number of requests join and leave at every step. A request that
fails ends only its own branches.
"""

import threading
from collections.abc import Sequence

import torch
from torch import Tensor

from branchwise.backends.engine.branch import EngineBranch
from branchwise.backends.engine.cache.kv_pool import KVPool
from branchwise.backends.engine.cache.radix_tree import RadixTree
from branchwise.backends.engine.cache.snapshots import SnapshotCache
from branchwise.backends.engine.failures import closed_error, out_of_memory_error, step_error
from branchwise.backends.engine.model.causal_lm import EngineModel
from branchwise.backends.engine.scheduler.admission import Admission
from branchwise.backends.engine.scheduler.batch import Batch, PoolFullError, PrefillChunk
from branchwise.backends.engine.scheduler.input_queue import InputQueue
from branchwise.backends.engine.scheduler.output_queue import OutputQueue, resolve
from branchwise.backends.engine.scheduler.requests import GenerateRequest, Request, ScoreRequest
from branchwise.backends.engine.scheduler.scoring import score
from branchwise.backends.engine.speculation.speculator import Speculator
from branchwise.backends.engine.speculation.verify import Verification, Verifier, verify_keyed
from branchwise.backends.stream import Broken
from branchwise.core.errors import BackendError
from branchwise.core.path import StopReason


class StepLoop(threading.Thread):
    """Owner of the model, the cache, the running branches and the waiting requests. Only this thread touches them."""

    def __init__(
        self,
        *,
        model: EngineModel,
        tree: RadixTree,
        pool: KVPool,
        snapshots: SnapshotCache,
        end_tokens: frozenset[int],
        max_branches: int,
        prefill_chunk: int,
        speculator: Speculator | None = None,
        verify: Verifier = verify_keyed,
    ) -> None:
        """`end_tokens`: those that end a branch; `max_branches` and `prefill_chunk` (tokens): limits of one pass."""
        super().__init__(name="branchwise-engine", daemon=True)
        self.model = model
        self.tree = tree
        self.pool = pool
        self.snapshots = snapshots
        self.end_tokens = end_tokens
        self.batch = Batch(
            model=model,
            tree=tree,
            pool=pool,
            max_branches=max_branches,
            end_tokens=end_tokens,
            speculator=speculator,
            verify=verify,
        )
        self.admission = Admission(self.batch, snapshots, prefill_chunk)
        self.input_queue = InputQueue()
        self.output_queue = OutputQueue()

    def close(self) -> None:
        """End every branch and the thread."""
        self.input_queue.close()
        if self.ident is not None and threading.current_thread() is not self:
            self.join()

    @torch.inference_mode()
    def run(self) -> None:
        while self._receive():
            try:
                self._run_step()
            except Exception as error:  # no error may end the loop
                self._fail_everything(error)
            self._flush()
        for branch in self._branches():
            self._fail_branch(branch, closed_error())
        for request in self.admission.requests:
            if isinstance(request, ScoreRequest):
                resolve(request, closed_error())
        self._flush()

    def _receive(self) -> bool:
        """Apply all inputs, waiting for one while there is nothing to do. Return False when the loop must end."""
        inputs = self.input_queue.take(wait=not (self.admission.requests or self.batch.running))
        for request in inputs.requests:
            self.admission.add(request)
        for branch in inputs.cancelled:
            self._end_branch(branch, StopReason.CANCELLED)
        for tokens in inputs.released:
            position = self.tree.match(tokens)
            if position.depth >= len(tokens) - 1:  # a path's last token is sampled, but never computed
                self.tree.demote(position)
        if inputs.clear:
            self.tree.evict(self.tree.capacity)
        return not inputs.closing

    def _branches(self) -> list[EngineBranch]:
        """Return every branch that runs or waits."""
        requests = [request for request in self.admission.requests if isinstance(request, GenerateRequest)]
        return [*self.batch.running, *(branch for request in requests for branch in request.open_branches())]

    # A step

    def _run_step(self) -> None:
        chunks = self.admission.admit(self._start_request)
        while self.batch.running or chunks:
            try:
                self._compute(chunks)
                return
            except PoolFullError:
                self._free_slots(chunks)
            except Exception as error:
                if not chunks:
                    for branch in list(self.batch.running):
                        self._fail_branch(branch, step_error(error))
                    return
                for chunk in chunks:  # the pass may succeed without them
                    self._fail_request(chunk.request, error)
            chunks = []

    def _start_request(self, request: Request) -> None:
        """Start branches of a request whose tokens are cached, or score its continuations."""
        try:
            if isinstance(request, GenerateRequest):
                self._start_branches(request)
            elif isinstance(request, ScoreRequest):
                resolve(request, score(self.model, self.tree, self.pool, request, self._logits(request)))
                self.admission.remove(request)
                self.admission.memory_full = False
        except PoolFullError:
            self.admission.memory_full = True
            if not self.admission.unpin() and not self.batch.running:
                self._fail_request(request, out_of_memory_error())
        except Exception as error:
            self._fail_request(request, error)

    def _start_branches(self, request: GenerateRequest) -> None:
        """Sample the first token of as many waiting branches as the batch can take."""
        assert request.cursor is not None
        logits = self._logits(request)
        started = request.waiting[: self.batch.available]
        request.waiting = request.waiting[len(started) :]
        for branch in started:
            request.charge(branch)
            branch.cursor = self.tree.fork(request.cursor)
            branch.state, branch.hidden = request.state, request.hidden
            self.batch.running.append(branch)
        verifications = [Verification(branch, request.depth, 0) for branch in started]
        self.batch.verify(logits, verifications)
        self._emit_all(verifications)
        if not request.waiting:
            self.admission.remove(request)

    def _logits(self, request: Request) -> Tensor:
        """Return logits [1, vocabulary] after a request's tokens, by the output head alone if needed."""
        if request.logits is None:
            hidden = request.hidden
            if hidden is None:
                assert self.pool.hidden is not None
                assert request.cursor is not None
                node, offset = request.cursor.position
                hidden = self.pool.hidden[node.slots[offset - 1]][None]
            request.logits = self.model.logits_of(hidden)
        return request.logits

    def _compute(self, chunks: Sequence[PrefillChunk]) -> None:
        result = self.batch.step(chunks)
        for chunk, row in zip(chunks, result.chunk_rows, strict=True):
            self._save_snapshot(chunk.request)
            if chunk.request.depth == len(chunk.request.tokens):
                chunk.request.logits = result.logits[row : row + 1].clone()
        self._emit_all(result.verifications)

    def _save_snapshot(self, owner: Request | EngineBranch) -> None:
        """Save a recurrent model's state at the cursor, so that other branches can continue from there."""
        if owner.state is not None and owner.hidden is not None and owner.cursor is not None:
            self.tree.add_snapshot(owner.cursor.position, self.snapshots.add(owner.state, owner.hidden))

    def _emit_all(self, verifications: Sequence[Verification]) -> None:
        for verified in verifications:
            try:
                if verified.error is not None:
                    raise verified.error
                self._emit(verified)
            except Exception as error:
                self._fail_branch(verified.branch, step_error(error))

    def _emit(self, verified: Verification) -> None:
        """Append a branch's sampled tokens up to its stop, emit them and end the branch at a stop."""
        branch, ends = verified.branch, list[int]()
        detokenizer, reason = branch.detokenizer, None
        for token in verified.tokens:
            branch.sampled.append(token)
            ends.append(len(detokenizer.text) if token in self.end_tokens else detokenizer.push(token))
            reason = self._stop_reason(branch, token)
            if reason is not None:
                break
        count = len(ends)
        branch.accepted.update(verified.draft.nodes[node].drafter for node in verified.accepted[:count])
        event = branch.tokens_event(
            tuple(verified.tokens[:count]),
            tuple(ends),
            tuple(verified.logprobs[:count]),
            tuple(verified.top_logprobs[:count]) if branch.sampling.logprobs else None,
            final=reason is not None,
        )
        self.output_queue.put(branch.extension, event)
        if self.batch.speculator is not None:
            self.batch.speculator.observe(verified, count)
        if reason is not None:
            self._end_branch(branch, reason)

    def _stop_reason(self, branch: EngineBranch, token: int) -> StopReason | None:
        """Return why a branch ends after the token it sampled, or None while it continues."""
        if token in self.end_tokens:
            return StopReason.END
        if branch.detokenizer.stopped:
            return StopReason.STOP
        return StopReason.LENGTH if len(branch.sampled) >= (branch.sampling.max_tokens or 1) else None

    def _flush(self) -> None:
        orphans = self.output_queue.flush()
        for branch in self._branches() if orphans else ():
            if branch.extension in orphans:
                self._detach(branch)

    # Ends and failures

    def _end_branch(self, branch: EngineBranch, reason: StopReason) -> None:
        if self._detach(branch):
            cost = branch.cost(discarded=reason is StopReason.CANCELLED)
            self.output_queue.put(branch.extension, branch.ended_event(reason, cost))

    def _fail_branch(self, branch: EngineBranch, error: BackendError) -> None:
        if self._detach(branch):
            self.output_queue.put(branch.extension, Broken(branch.copy, error, branch.cost(discarded=True)))

    def _detach(self, branch: EngineBranch) -> bool:
        """Remove a branch from the batch, or mark a waiting one as done. Return False when it was done before."""
        if branch.done:
            return False
        branch.done = True
        if self.batch.speculator is not None:
            self.batch.speculator.release(branch)
        if branch.cursor is not None:
            self._save_snapshot(branch)
            self.batch.running.remove(branch)
            self.tree.release(branch.cursor)
            branch.cursor = branch.state = branch.hidden = None
            self.admission.memory_full = False
            return True
        for request in self.admission.requests:
            # If no branch of a request has started, the last one to end is charged the tokens computed for it.
            if (
                isinstance(request, GenerateRequest)
                and branch in request.waiting
                and not request.open_branches()
                and not request.charged
            ):
                request.charge(branch)
        return True

    def _free_slots(self, chunks: Sequence[PrefillChunk]) -> None:
        """Make room in a full pool for the next attempt, which has no chunks.

        In this order: unpin waiting requests, drop the chunks, preempt the branch that arrived last.
        """
        self.admission.memory_full = True
        if self.admission.unpin():
            return
        last = max(self.batch.running, key=lambda b: (b.priority, b.arrival, b.copy), default=None)
        if last is None:
            for chunk in chunks[:1]:
                self._fail_request(chunk.request, out_of_memory_error())
        elif not chunks and len(self.batch.running) > 1:
            self.admission.preempt(last)
        elif not chunks:
            self._fail_branch(last, out_of_memory_error())

    def _fail_request(self, request: Request, error: Exception) -> None:
        if isinstance(request, GenerateRequest):
            for branch in request.open_branches():
                self._fail_branch(branch, step_error(error))
        elif isinstance(request, ScoreRequest):
            resolve(request, step_error(error))
        if request in self.admission.requests:
            self.admission.remove(request)

    def _fail_everything(self, error: Exception) -> None:
        for branch in self._branches():
            self._fail_branch(branch, step_error(error))
        for request in list(self.admission.requests):
            self._fail_request(request, error)
