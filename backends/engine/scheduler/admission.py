"""The jobs that wait, in the order in which they are served: by priority, then by arrival."""

import bisect
import itertools
from collections.abc import Callable

from branchwise.backends.engine.cache.snapshots import Snapshots
from branchwise.backends.engine.scheduler.batch import Batch, Chunk
from branchwise.backends.engine.scheduler.jobs import Job, LiveBranch, StartJob


class Admission:
    """Decides what begins and which tokens are computed for it. Owned by the step loop."""

    def __init__(self, batch: Batch, snapshots: Snapshots, chunk: int) -> None:
        """`chunk`: most tokens to compute for waiting jobs in one pass."""
        self.jobs: list[Job] = []
        self.crowded = False
        """Memory ran out: nothing begins until a branch has ended; while none runs, the first job alone."""
        self._batch = batch
        self._snapshots = snapshots
        self._chunk = chunk
        self._order = itertools.count()

    def add(self, job: Job) -> None:
        if job.order < 0:
            job.order = next(self._order)
            for branch in job.waiting if isinstance(job, StartJob) else ():
                branch.order = job.order
        bisect.insort(self.jobs, job, key=lambda waiting: (waiting.priority, waiting.order))

    def remove(self, job: Job) -> None:
        self.jobs.remove(job)
        job.let_go(self._batch.tree)

    def preempt(self, branch: LiveBranch) -> None:
        """A branch gives its memory up; it will go on from the same place, with the same tokens."""
        assert branch.cursor is not None
        self._batch.running.remove(branch)
        self._batch.tree.release(branch.cursor)
        branch.cursor = branch.state = branch.hidden = None
        tokens = (*branch.given, *branch.drawn)
        self.add(StartJob(tokens, branch.priority, branch.order, waiting=[branch]))

    def admit(self, begin: Callable[[Job], None]) -> list[Chunk]:
        """Begin every job whose turn it is and whose tokens are held; the tokens to compute for others.

        `begin` starts or finishes a job, and removes it from here when it is done with.
        """
        batch, left = self._batch, self._chunk
        chunks: list[Chunk] = []
        places: set[tuple[int, int, int]] = set()
        room = batch.room
        for job in self._candidates():
            if isinstance(job, StartJob):
                if not job.open():
                    self.remove(job)
                    continue
                if room <= 0:
                    continue
            if batch.model.recurrent:
                job.resume(batch.tree, self._snapshots)
            else:
                job.follow(batch.tree, batch.model.can_reread)
            assert job.cursor is not None
            if job.depth == len(job.tokens):
                begin(job)
                room = min(room, batch.room)
                continue
            if isinstance(job, StartJob):
                room -= len(job.waiting)
            # What two jobs have in common is computed for the first; the second finds it in the next step.
            place = (id(job.cursor.run), job.cursor.offset, job.tokens[job.depth])
            if left > 0 and place not in places:
                places.add(place)
                chunks.append(Chunk(job, job.tokens[job.depth : job.depth + left]))
                left -= len(chunks[-1].tokens)
        return chunks

    def let_go(self) -> bool:
        """Keep nothing held any more for the jobs that wait (where nothing runs, except the first); whether anything
        was."""
        first = 0 if self._batch.running else 1
        keeping = [job for job in self.jobs[first:] if job.cursor is not None]
        for job in keeping:
            job.let_go(self._batch.tree)
        return bool(keeping)

    def _candidates(self) -> list[Job]:
        if not self.crowded:
            return list(self.jobs)
        return [] if self._batch.running else self.jobs[:1]
