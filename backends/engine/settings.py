"""How the engine runs a model."""

import os
from dataclasses import dataclass

import torch

from branchwise.errors import require

_DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How the engine runs a model; the defaults suit a laptop and a single GPU alike."""

    dtype: str | None = None
    """float32, float64, bfloat16 or float16; None: the checkpoint's own where the device is fast at it."""
    device: str | None = None
    """A torch device such as cpu or cuda:0; None: a GPU if there is one."""
    memory: int | None = None
    """Bytes for held tokens and states; None: a quarter of what is free when the model is loaded."""
    weights: str | None = None
    """int8: round the linear layers' weights to 8 bits (half the memory; another model, and results say so); None: as
    they are."""
    max_batch: int = 64
    """Most branches computed in one pass; more wait their turn."""
    prefill_chunk: int = 512
    """Most prompt tokens computed in one pass, over all prompts."""

    def __post_init__(self) -> None:
        require(
            self.dtype is None or self.dtype in _DTYPES,
            "dtype",
            f"is {self.dtype!r}",
            f"use one of {', '.join(_DTYPES)}",
        )
        require(self.weights in (None, "int8"), "weights", f"is {self.weights!r}", "use int8, or leave it out")
        require(self.memory is None or self.memory > 0, "memory", f"is {self.memory}", "use a positive number of bytes")
        require(self.max_batch >= 1, "max_batch", f"is {self.max_batch}", "use at least 1")
        require(self.prefill_chunk >= 1, "prefill_chunk", f"is {self.prefill_chunk}", "use at least 1")

    def torch_dtype(self) -> torch.dtype | None:
        return None if self.dtype is None else _DTYPES[self.dtype]

    def torch_device(self) -> torch.device:
        """Raises ConfigError for a device torch does not know."""
        name = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            return torch.empty(0, device=name).device
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            require(False, "device", f"{name!r} cannot be used ({reason})", "use cpu, or a device torch lists")
            raise

    def memory_bytes(self, device: torch.device) -> int:
        """Bytes for what is held."""
        return _free_memory(device) // 4 if self.memory is None else self.memory


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, AttributeError):  # not offered by this system
        return 4 << 30
