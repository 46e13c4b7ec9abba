"""branchwise's engine, through the `Backend` protocol."""

import asyncio
from pathlib import Path as FilePath

import torch
import transformers

import branchwise
from benchmarks.breakdown import Breakdown, Widths, shares
from benchmarks.systems.worker import SHARE, Job, Measurement, Timeline, Worker, serve
from branchwise.backends.base import Backend, ExtendRequest
from branchwise.backends.engine.settings import EngineSettings
from branchwise.backends.stream import Broken, Tokens
from branchwise.core.keys import child_key
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.core.usage import Usage


class Branchwise(Worker):
    """Worker that runs branchwise's engine."""

    def __init__(self, folder: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.versions = {
            "branchwise": branchwise.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }
        self._folder = FilePath(folder)
        self._backend = branchwise.load(folder, settings=EngineSettings(device="cpu", speculation="off"))

    def measure(self, job: Job) -> Measurement:
        breakdown = Breakdown() if job.profile else None
        measurement = asyncio.run(generate(self._backend, job))
        self._backend.clear()
        if breakdown is not None:
            parts = shares(breakdown.operations(), Widths.of(self._folder))
            measurement.extra.update({f"{SHARE}{part}": share for part, share in parts.items()})
        return measurement

    def close(self) -> None:
        asyncio.run(self._backend.close())


async def generate(backend: Backend, job: Job) -> Measurement:
    """Generate all branches of `job` with one request. Raises the error of a broken branch."""
    root = Path(parent=None, key=job.seed, token_ids=tuple(job.prompt), text="")
    sampling = Sampling(temperature=job.temperature, max_tokens=job.new_tokens)
    keys = tuple(child_key(job.seed, copy) for copy in range(job.branches))
    timeline = Timeline(job.branches)
    cost = Usage()
    async for event in backend.extend(ExtendRequest(root, keys, sampling)):
        if isinstance(event, Tokens):
            timeline.record(event.copy, event.count)
            continue
        if isinstance(event, Broken):
            raise event.error
        cost += event.cost
    return timeline.measurement({"prefilled": float(cost.prefilled), "passes": cost.forward_passes})


if __name__ == "__main__":
    serve(Branchwise)
