"""How vLLM runs a model."""

import dataclasses
import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import JsonValue

from branchwise.core.errors import ConfigError, require

if TYPE_CHECKING:
    from vllm.engine.arg_utils import AsyncEngineArgs

_CPU_BLOCK = 32  # tokens: the CPU's default of 128 shares nothing of a shorter prompt
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
    """How vLLM runs a model. What is None is left to vLLM."""

    dtype: str | None = None
    """float32, bfloat16 or float16; None: the checkpoint's own, but 16 bits where that is float32."""
    max_model_len: int | None = None
    """Most tokens of a path; None: what the model was made for."""
    block_size: int | None = None
    """Tokens in a block of the prefix cache, which are shared whole or not at all; None: vLLM's own, 32 on a CPU."""
    prefix_caching: bool = True
    """Compute shared prefixes once."""
    kv_cache_memory_bytes: int | None = None
    """Bytes for keys and values; None: most of the accelerator's memory, on a CPU a quarter of what is free."""
    max_num_seqs: int | None = None
    """Most branches computed in one pass."""
    tensor_parallel_size: int = 1
    """Accelerators each layer is cut over."""
    pipeline_parallel_size: int = 1
    """Accelerators the layers are dealt out to."""
    data_parallel_size: int = 1
    """Copies of the model; the branches of a prompt stay with one, whose prefix cache has it."""
    distributed_executor_backend: str | None = None
    """mp (processes of this machine) or ray (a cluster)."""
    quantization: str | None = None
    """fp8, awq, gptq, ...: another model, and results say so; None: as the checkpoint is."""
    speculative_config: Mapping[str, JsonValue] | None = None
    """vLLM's speculation, such as {"method": "ngram", "num_speculative_tokens": 4}: the same distribution, not the
    tokens of plain decoding, and results say so."""
    adapters: tuple[LoRAAdapter, ...] = ()
    """LoRA adapters; see VLLMBackend.adapter."""
    max_lora_rank: int | None = None
    """The highest rank among the adapters'."""
    scheduling_policy: str = "fcfs"
    """fcfs, or priority: requests with a lower priority are served first."""
    enforce_eager: bool = False
    """Start without compiling: at once, and slower later."""
    max_logprobs: int = 64
    """Most alternatives reported with each token."""
    seed: int = 0
    """vLLM's own. Branches draw by keys that a run's seed makes."""
    extra: Mapping[str, JsonValue] = field(default_factory=dict)
    """Any other engine argument of the installed vLLM, by name."""

    def __post_init__(self) -> None:
        require(self.dtype is None or self.dtype in _DTYPES, "dtype", f"is {self.dtype!r}", f"use {', '.join(_DTYPES)}")
        for name in _COUNTS:
            value = getattr(self, name)
            require(value is None or value >= 1, name, f"is {value}", "use at least 1")
        require(
            self.distributed_executor_backend in (None, "mp", "ray"), "distributed_executor_backend",
            f"is {self.distributed_executor_backend!r}", "use mp or ray, or leave it out",
        )  # fmt: skip
        require(
            self.scheduling_policy in ("fcfs", "priority"), "scheduling_policy", f"is {self.scheduling_policy!r}",
            "use fcfs or priority",
        )  # fmt: skip
        require(self.max_logprobs >= 0, "max_logprobs", f"is {self.max_logprobs}", "use 0 or more")
        names = [adapter.name for adapter in self.adapters]
        require(len(set(names)) == len(names), "adapters", f"are called {', '.join(names)}", "give each its own name")
        ours = [name for name in self.extra if name in _OWN]
        require(not ours, "extra", f"holds {', '.join(ours)}", "these have fields of their own: set those")

    def engine_args(self, model: str) -> "AsyncEngineArgs":
        """vLLM's engine arguments for `model`, a folder or hub id.

        Raises ConfigError for a name in `extra` that the installed vLLM does not know. Needs vLLM.
        """
        from vllm import __version__
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform

        known = {argument.name for argument in dataclasses.fields(AsyncEngineArgs)}
        for name in self.extra:
            near = difflib.get_close_matches(name, known, n=1)
            require(
                name in known, "extra", f"{name} is no engine argument of vLLM {__version__}",
                f"did you mean {near[0]}?" if near else "leave it out",
            )  # fmt: skip
        arguments = self._arguments(cpu=bool(current_platform.is_cpu()))
        if self.speculative_config is not None and "per_request_spec_decode_metrics" in known:
            arguments["per_request_spec_decode_metrics"] = "summary"
        missing = [name for name in arguments if name not in known]
        if missing:
            raise ConfigError(missing[0], f"is no engine argument of vLLM {__version__}", "leave it out")
        return AsyncEngineArgs(**{"model": model, **arguments, **self.extra})

    def _arguments(self, *, cpu: bool) -> dict[str, object]:
        """What differs from vLLM's defaults, by the names of its arguments."""
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
    "max_model_len", "block_size", "kv_cache_memory_bytes", "max_num_seqs", "tensor_parallel_size",
    "pipeline_parallel_size", "data_parallel_size", "max_lora_rank",
)  # fmt: skip
_OWN = {f.name for f in dataclasses.fields(VLLMSettings)} - {"extra"} | {"model", "enable_prefix_caching"}


def _free_memory() -> int:
    """Bytes."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, AttributeError):  # not offered by this system
        return 4 << 30
