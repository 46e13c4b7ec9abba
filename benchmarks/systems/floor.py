"""The floor as a system: a decode step is the model's matrix products alone."""

import torch
from transformers import AutoModelForCausalLM

from benchmarks.floor import Products, copy_bandwidth, step_bytes
from benchmarks.systems.worker import Job, Measurement, Worker, serve

_STEPS = 32


class Floor(Worker):
    """Worker that runs the matrix products."""

    def __init__(self, folder: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.versions = {"torch": torch.__version__}
        self._network = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
        self._products = Products(self._network)

    def measure(self, job: Job) -> Measurement:
        steps = min(_STEPS, job.new_tokens)
        seconds = self._products.seconds(job.branches, steps)
        weights = self._products.weight_bytes
        needed = step_bytes(self._network, weights, job.branches, len(job.prompt), job.new_tokens)
        bandwidth = copy_bandwidth(torch.device("cpu"))
        extra = {"bandwidth": bandwidth, "bandwidth_step_seconds": needed.seconds(bandwidth)}
        return Measurement(job.branches * steps, seconds * steps, extra=extra)


if __name__ == "__main__":
    serve(Floor)
