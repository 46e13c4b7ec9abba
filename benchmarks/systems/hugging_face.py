"""transformers' `generate` on a batch of copies of the prompt, with SDPA attention."""

import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.generation.streamers import BaseStreamer

from benchmarks.systems.worker import Job, Measurement, Timeline, Worker, serve


class _TimelineStreamer(BaseStreamer):
    """Streamer that records every token of every row; its first input is the prompt."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._expects_prompt = True

    def put(self, value: Tensor) -> None:
        if self._expects_prompt:
            self._expects_prompt = False
            return
        for row in range(len(value)):
            self._timeline.record(row, 1)

    def end(self) -> None:
        """Do nothing: no token is buffered."""


class HuggingFace(Worker):
    """Worker that runs transformers."""

    def __init__(self, folder: str, threads: int) -> None:
        torch.set_num_threads(threads)
        transformers.logging.set_verbosity_error()
        self.versions = {"transformers": transformers.__version__, "torch": torch.__version__}
        self._network = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", attn_implementation="sdpa").eval()

    @torch.inference_mode()
    def measure(self, job: Job) -> Measurement:
        torch.manual_seed(job.seed)
        prompt = torch.tensor([job.prompt])
        timeline = Timeline(job.branches)
        self._network.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            num_return_sequences=job.branches,
            do_sample=True,
            temperature=job.temperature,
            top_k=0,
            top_p=1.0,
            max_new_tokens=job.new_tokens,
            min_new_tokens=None,
            pad_token_id=0,
            streamer=_TimelineStreamer(timeline),
        )
        return timeline.measurement()


if __name__ == "__main__":
    serve(HuggingFace)
