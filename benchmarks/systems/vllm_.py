"""vLLM with one request per branch and prefix caching. Runs in vLLM's environment."""

import json
import os
from importlib.metadata import version
from pathlib import Path

from benchmarks.systems.worker import Job, Measurement, Timeline, Worker, serve

# In this process: a separate scheduler polls while the model runs, which costs a core of a small machine.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")

_BLOCK = 32  # with the CPU's default of 128, a prompt of 83 tokens fills no block and is not shared
_KV_GIB = float(os.environ.get("BENCH_VLLM_KV_GIB", "2"))
_EAGER = os.environ.get("BENCH_VLLM_EAGER") == "1"  # eager starts faster and decodes a tenth slower


class Vllm(Worker):
    """Worker that runs vLLM."""

    def __init__(self, folder: str, threads: int) -> None:
        import torch
        from vllm import LLM

        torch.set_num_threads(threads)
        self.versions = {"vllm": version("vllm-cpu"), "torch": torch.__version__}
        self._engine = LLM(
            model=folder,
            dtype=json.loads((Path(folder) / "config.json").read_text())[
                "dtype"
            ],  # "auto" would turn float32 into 16 bits
            enforce_eager=_EAGER,
            enable_prefix_caching=True,
            block_size=_BLOCK,
            kv_cache_memory_bytes=int(_KV_GIB * 2**30),
            max_model_len=4096,
            max_num_seqs=64,
            seed=0,
        ).llm_engine

    def measure(self, job: Job) -> Measurement:
        from vllm import SamplingParams, TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(
            temperature=job.temperature,
            max_tokens=job.new_tokens,
            ignore_eos=True,
            detokenize=True,
            output_kind=RequestOutputKind.DELTA,
        )
        timeline = Timeline(job.branches)
        for branch in range(job.branches):
            self._engine.add_request(f"{job.seed}-{branch}", TokensPrompt(prompt_token_ids=job.prompt), params)
        while self._engine.has_unfinished_requests():
            for output in self._engine.step():
                branch = int(output.request_id.split("-")[1])
                timeline.record(branch, len(output.outputs[0].token_ids))
        return timeline.measurement()


if __name__ == "__main__":
    serve(Vllm)
