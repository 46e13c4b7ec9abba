"""Settings of the embedded engine."""

import os
from dataclasses import dataclass

import torch

from branchwise.core.errors import require

_DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}

DRAFTERS = ("siblings", "lookup", "store", "draft-model", "layer-skip")
"""Names of all drafters."""
_LOOKUP_DRAFTERS = DRAFTERS[:3]
"""Drafters that look tokens up; the others run a model."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Settings of the engine. The defaults suit a laptop and a single GPU."""

    dtype: str | None = None
    """float32, float64, bfloat16 or float16; None: the checkpoint's own where the device computes it fast."""
    device: str | None = None
    """A torch device such as cpu or cuda:0; None: a GPU if there is one."""
    memory: int | None = None
    """Bytes of the cache for tokens and states; None: a quarter of the memory that is free when the model is loaded."""
    weights: str | None = None
    """int8: round the linear layers' weights to 8 bits, which halves their memory, changes the distribution and is
    reported in results; None: keep the weights."""
    speculation: str = "auto"
    """auto: draft tokens where it saves time; off: never. The tokens are the same either way where the model is
    deterministic; elsewhere drafts may change a rounding."""
    drafters: tuple[str, ...] | None = None
    """Drafters in order of preference: siblings (from the question's other branches), lookup (from the branch's own
    text), store (from recent generations for any question), draft-model, layer-skip. None: the first three, which cost
    almost nothing, after the draft model if there is one."""
    draft_model: str | None = None
    """A smaller model with the same tokenizer, for the drafter draft-model: any name that `branchwise.load` accepts."""
    skipped_layers: tuple[int, ...] | None = None
    """Layers that layer-skip drafts leave out; None: every second one of the middle half."""
    draft_budget: int | None = None
    """Number of tokens to draft for each branch and step; None: as many as save time."""
    acceptance: str = "keyed"
    """Verification of drafts. keyed: the tokens are those of plain decoding for any drafts. rejection: textbook
    speculative sampling, which accepts more of a draft model's tokens; the distribution is the same, the tokens are
    not, and results report it."""
    deterministic: bool | None = None
    """Compute a branch's tokens and log-probabilities from its path, key and sampling settings alone: what else is in
    a step, cached or drafted does not change a rounding. None: where the engine supports it, which is Llama, Mistral
    and Qwen models on a CPU without int8 weights; True: raise ConfigError elsewhere; False: never."""
    max_batch: int | None = None
    """Maximum number of branches in one pass; further ones wait. None: 64 on a CPU, 256 on a GPU."""
    prefill_chunk: int = 512
    """Maximum number of prompt tokens in one pass, over all prompts."""

    def __post_init__(self) -> None:
        dtypes = ", ".join(_DTYPES)
        require(self.dtype is None or self.dtype in _DTYPES, "dtype", f"is {self.dtype!r}", f"use one of {dtypes}")
        require(self.weights in (None, "int8"), "weights", f"is {self.weights!r}", "use int8, or leave it out")
        require(self.memory is None or self.memory > 0, "memory", f"is {self.memory}", "use a positive number of bytes")
        require(self.speculation in ("auto", "off"), "speculation", f"is {self.speculation!r}", "use auto or off")
        self._check_drafters()
        self._check_acceptance()
        budget, batch = self.draft_budget, self.max_batch
        require(budget is None or budget >= 1, "draft_budget", f"is {budget}", "use at least 1, or None")
        require(batch is None or batch >= 1, "max_batch", f"is {batch}", "use at least 1, or None")
        require(self.prefill_chunk >= 1, "prefill_chunk", f"is {self.prefill_chunk}", "use at least 1")

    def _check_drafters(self) -> None:
        names = self.all_drafters()
        require(
            set(names) <= set(DRAFTERS), "drafters", f"are {', '.join(names)}", f"use some of {', '.join(DRAFTERS)}"
        )
        require(
            "draft-model" not in names or self.draft_model is not None,
            "draft_model",
            "is missing, but the drafters include draft-model",
            "name a model",
        )
        require(
            self.draft_model is None or "draft-model" in names,
            "drafters",
            "do not include draft-model, but there is a draft_model",
            "add it, or leave draft_model out",
        )

    def _check_acceptance(self) -> None:
        require(
            self.acceptance in ("keyed", "rejection"), "acceptance", f"is {self.acceptance!r}", "use keyed or rejection"
        )
        require(
            self.acceptance == "keyed" or not self.deterministic,
            "deterministic",
            "is True, but rejection samples by the drafts",
            "use acceptance keyed, or leave it out",
        )
        # A budget that depends on the sampled drafts would change the distribution of the accepted tokens.
        names = self.all_drafters()
        sampling = [name for name in names if name not in _LOOKUP_DRAFTERS]
        require(
            self.acceptance == "keyed" or not sampling or (len(names) == 1 and self.draft_budget is not None),
            "acceptance",
            f"is rejection with {', '.join(names)}",
            f"set draft_budget and leave {sampling[0] if sampling else ''} as the only drafter",
        )

    def all_drafters(self) -> tuple[str, ...]:
        """Return the names of the drafters, in order of preference."""
        if self.drafters is not None:
            return self.drafters
        return _LOOKUP_DRAFTERS if self.draft_model is None else ("draft-model", *_LOOKUP_DRAFTERS)

    def torch_dtype(self) -> torch.dtype | None:
        return None if self.dtype is None else _DTYPES[self.dtype]

    def torch_device(self) -> torch.device:
        """Return the device. Raises ConfigError when torch does not support it."""
        name = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            return torch.empty(0, device=name).device
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            require(False, "device", f"{name!r} cannot be used ({reason})", "use cpu, or a device torch lists")
            raise

    def branch_limit(self, device: torch.device) -> int:
        """Return the maximum number of branches in one pass."""
        return self.max_batch or (64 if device.type == "cpu" else 256)

    def memory_bytes(self, device: torch.device) -> int:
        """Return the bytes of the cache."""
        return _free_memory(device) // 4 if self.memory is None else self.memory


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, AttributeError):  # not supported by this system
        return 4 << 30
