"""Capabilities of a vLLM engine, read from its configuration."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from branchwise.backends.base import Capabilities
from branchwise.core.sampling import Sampling

if TYPE_CHECKING:
    from vllm.config import VllmConfig

_MAX_ALTERNATIVES = 64  # of `Sampling.logprobs`


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Facts about an engine that do not change while it runs."""

    capabilities: Capabilities
    ranks: int
    """Data-parallel copies of the model that requests can be sent to."""
    drafter: str | None
    """Its speculation method, or None without speculation."""
    prioritized: bool
    """Requests may have a priority."""

    @classmethod
    def of(cls, config: "VllmConfig", name: str) -> "EngineInfo":
        """Return the facts of a configuration; `name` is the model's name in results."""
        parallel, speculative = config.parallel_config, config.speculative_config
        local = parallel.data_parallel_external_lb or parallel.data_parallel_hybrid_lb
        return cls(
            _capabilities(config, name),
            ranks=int(parallel.data_parallel_size_local if local else parallel.data_parallel_size),
            drafter=None if speculative is None else str(speculative.method),
            prioritized=str(config.scheduler_config.policy) == "priority",
        )

    def rank(self, root: tuple[int, ...]) -> int | None:
        """Return the copy that serves all paths of a prompt, whose prefix it caches; None if there is one copy."""
        return hash(root) % self.ranks if self.ranks > 1 else None

    def unsupported_field(self, sampling: Sampling) -> str | None:
        """Return the field of `sampling` that vLLM would refuse, or None."""
        if sampling.temperature > 2:
            return "temperature"
        return "min_p" if self.drafter is not None and sampling.min_p > 0 else None


def _capabilities(config: "VllmConfig", name: str) -> Capabilities:
    model, cache = config.model_config, config.cache_config
    # Other modes report log-probabilities after temperature and filters.
    raw = str(model.logprobs_mode) == "raw_logprobs"
    most = int(model.max_logprobs)
    speculates = config.speculative_config is not None
    return Capabilities(
        model=name,
        context=int(model.max_model_len),
        prefix_reuse=int(cache.block_size) if cache.enable_prefix_caching else 0,
        logprobs=raw,
        top_k_logprobs=_MAX_ALTERNATIVES if most < 0 else min(most, _MAX_ALTERNATIVES),
        score=raw and not getattr(cache, "kv_sharing_fast_prefill", False),
        keyed=not speculates and _batch_invariant(str(model.dtype)),
        changes=tuple(_changes(config)),
    )


def _batch_invariant(dtype: str) -> bool:
    """Return whether a branch samples the same tokens in any batch; 16-bit types round differently by batch size."""
    return dtype == "torch.float32" or os.environ.get("VLLM_BATCH_INVARIANT") == "1"


def _changes(config: "VllmConfig") -> list[str]:
    """Return a description of every setting that changes the distribution or the tokens."""
    changes = []
    if config.model_config.quantization is not None:
        changes.append(f"weights quantized by {config.model_config.quantization}")
    if str(config.cache_config.cache_dtype).startswith(("fp8", "int8", "nvfp4")):
        changes.append(f"keys and values rounded to {config.cache_config.cache_dtype}")
    if config.speculative_config is not None:
        changes.append("rejection sampling: the same distribution, not the tokens of plain decoding")
    return changes
