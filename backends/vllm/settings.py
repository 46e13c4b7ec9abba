"""Settings of vLLM, and the engine arguments they make."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import JsonValue

from branchwise.core.errors import ConfigError, require
from branchwise.core.validation import suggestion

if TYPE_CHECKING:
    from vllm.engine.arg_utils import AsyncEngineArgs

_CPU_BLOCK = 32  # tokens; with the CPU's default of 128, shorter prompts are not shared
_DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class LoRAAdapter:
    """A LoRA adapter that vLLM serves beside the model."""

    name: str
    path: str
    """Its folder or hub id."""

    def __post_init__(self) -> None:
        require(bool(self.name), "adapters", "holds one without a name", "name it")
        require(bool(self.path), "adapters", f"{self.name} has no path", "give the adapter's folder or hub id")


@dataclass(frozen=True, slots=True)
class VLLMSettings:
    """Settings of vLLM. None leaves the choice to vLLM."""

    dtype: str | None = None
    """float32, bfloat16 or float16; None: the checkpoint's, or a 16-bit type if that is float32."""
    max_model_len: int | None = None
    """Most tokens of a path; None: the model's own context length."""
    block_size: int | None = None
    """Tokens of a block of the prefix cache, the unit of sharing; None: vLLM's default, but 32 on a CPU."""
    prefix_caching: bool = True
    """Compute shared prefixes once."""
    kv_cache_memory_bytes: int | None = None
    """Bytes of the KV cache; None: most of the accelerator's memory, or a quarter of free memory on a CPU."""
    max_num_seqs: int | None = None
    """Most branches in a batch."""
    tensor_parallel_size: int = 1
    """Accelerators that each layer is split over."""
    pipeline_parallel_size: int = 1
    """Accelerators that the layers are distributed over."""
    data_parallel_size: int = 1
    """Copies of the model; all branches of a prompt use one copy and its prefix cache."""
    distributed_executor_backend: str | None = None
    """mp (processes of this machine) or ray (a cluster)."""
    quantization: str | None = None
    """fp8, awq, gptq, ...: changes the model, which results record; None: as in the checkpoint."""
    speculative_config: Mapping[str, JsonValue] | None = None
    """vLLM's speculation, such as {"method": "ngram", "num_speculative_tokens": 4}.

    The distribution is unchanged, the tokens are not those of plain decoding, which results record.
    """
    adapters: tuple[LoRAAdapter, ...] = ()
    """LoRA adapters; see VLLMBackend.adapter."""
    max_lora_rank: int | None = None
    """The highest rank of an adapter."""
    scheduling_policy: str = "fcfs"
    """fcfs, or priority: requests with a lower priority are served first."""
    enforce_eager: bool = False
    """Start without compiling: faster to start, slower to run."""
    max_logprobs: int = 64
    """Most alternatives reported with each token."""
    seed: int = 0
    """vLLM's seed. Branches have seeds of their own, derived from the run's."""
    extra: Mapping[str, JsonValue] = field(default_factory=dict)
    """Other engine arguments of the installed vLLM, by name."""

    def __post_init__(self) -> None:
        require(self.dtype is None or self.dtype in _DTYPES, "dtype", f"is {self.dtype!r}", f"use {', '.join(_DTYPES)}")
        for name in _COUNTS:
            value = getattr(self, name)
            require(value is None or value >= 1, name, f"is {value}", "use at least 1")
        executor, policy = self.distributed_executor_backend, self.scheduling_policy
        known = executor in (None, "mp", "ray")
        require(known, "distributed_executor_backend", f"is {executor!r}", "use mp or ray, or leave it out")
        require(policy in ("fcfs", "priority"), "scheduling_policy", f"is {policy!r}", "use fcfs or priority")
        require(self.max_logprobs >= 0, "max_logprobs", f"is {self.max_logprobs}", "use 0 or more")
        names = [adapter.name for adapter in self.adapters]
        require(len(set(names)) == len(names), "adapters", f"are called {', '.join(names)}", "give each its own name")
        own = [name for name in self.extra if name in _FIELDS]
        require(not own, "extra", f"holds {', '.join(own)}", "these have fields of their own: set those")

    def engine_args(self, model: str) -> "AsyncEngineArgs":
        """Return vLLM's engine arguments for `model`, a folder or hub id. Needs vLLM.

        Raises ConfigError for a name in `extra` that the installed vLLM does not know.
        """
        from vllm import __version__
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform

        known = {argument.name for argument in dataclasses.fields(AsyncEngineArgs)}
        for name in self.extra:
            fix = suggestion(name, known, "leave it out")
            require(name in known, "extra", f"{name} is not an engine argument of vLLM {__version__}", fix)
        arguments = self._arguments(cpu=bool(current_platform.is_cpu()))
        if self.speculative_config is not None and "per_request_spec_decode_metrics" in known:
            arguments["per_request_spec_decode_metrics"] = "summary"
        missing = [name for name in arguments if name not in known]
        if missing:
            raise ConfigError(missing[0], f"is not an engine argument of vLLM {__version__}", "leave it out")
        return AsyncEngineArgs(**{"model": model, **arguments, **self.extra})

    def _arguments(self, *, cpu: bool) -> dict[str, object]:
        """Return the arguments that differ from vLLM's defaults, by name."""
        plain = [f.name for f in dataclasses.fields(self) if f.name not in ("prefix_caching", "adapters", "extra")]
        arguments = {name: getattr(self, name) for name in plain if getattr(self, name) is not None}
        arguments["enable_prefix_caching"] = self.prefix_caching
        if self.adapters:
            arguments.update(enable_lora=True, max_loras=len(self.adapters))
        if self.speculative_config is not None:
            arguments["speculative_config"] = dict(self.speculative_config)
        if cpu:
            arguments.setdefault("block_size", _CPU_BLOCK)
            if "VLLM_CPU_KVCACHE_SPACE" not in os.environ:
                arguments.setdefault("kv_cache_memory_bytes", _free_memory() // 4)
        return arguments


_COUNTS = (
    "max_model_len",
    "block_size",
    "kv_cache_memory_bytes",
    "max_num_seqs",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "max_lora_rank",
)
_FIELDS = {f.name for f in dataclasses.fields(VLLMSettings)} - {"extra"} | {"model", "enable_prefix_caching"}


def _free_memory() -> int:
    """Return bytes of free memory."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, AttributeError):  # unsupported on this system
        return 4 << 30
