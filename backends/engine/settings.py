"""How the engine runs a model."""

import os
from dataclasses import dataclass

import torch

from branchwise.core.errors import require

_DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}

DRAFTERS = ("siblings", "lookup", "store", "draft-model", "layer-skip")
"""Every drafter there is. The first three look things up, the others compute."""
_FREE = DRAFTERS[:3]


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
    speculation: str = "auto"
    """auto: draft tokens where that pays; off. The tokens are the same either way."""
    drafters: tuple[str, ...] | None = None
    """Who drafts, the first one first: siblings (from the question's other branches), lookup (the branch's own text),
    store (what was generated lately for any question), draft-model, layer-skip. None: the first three, which cost next
    to nothing; behind the draft model where there is one."""
    draft_model: str | None = None
    """A smaller model with the same tokenizer that drafts: whatever `branchwise.load` takes."""
    skipped_layers: tuple[int, ...] | None = None
    """The layers that layer-skip drafts leave out; None: every second one of the middle half."""
    draft_budget: int | None = None
    """Always draft so many tokens for a branch and step; None: as many as pay."""
    acceptance: str = "keyed"
    """How drafts are verified. keyed: the tokens are those of plain decoding, whatever is drafted. rejection: textbook
    speculative sampling, which accepts more of a draft model's tokens; the distribution is the same, the tokens are
    not, and results say so."""
    max_batch: int | None = None
    """Most branches computed in one pass; more wait their turn. None: 64 on a CPU, 256 on a GPU."""
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
        require(self.speculation in ("auto", "off"), "speculation", f"is {self.speculation!r}", "use auto or off")
        self._check_drafters()
        require(
            self.draft_budget is None or self.draft_budget >= 1, "draft_budget", f"is {self.draft_budget}",
            "use at least 1, or None",
        )  # fmt: skip
        most = self.max_batch
        require(most is None or most >= 1, "max_batch", f"is {most}", "use at least 1, or None")
        require(self.prefill_chunk >= 1, "prefill_chunk", f"is {self.prefill_chunk}", "use at least 1")

    def _check_drafters(self) -> None:
        names = self.all_drafters()
        require(
            set(names) <= set(DRAFTERS), "drafters", f"are {', '.join(names)}", f"use some of {', '.join(DRAFTERS)}"
        )
        require(
            "draft-model" not in names or self.draft_model is not None,
            "draft_model", "is missing, but the drafters hold draft-model", "name a model",
        )  # fmt: skip
        require(
            self.draft_model is None or "draft-model" in names,
            "drafters", "do not hold draft-model, but there is a draft_model", "add it, or leave draft_model out",
        )  # fmt: skip
        require(
            self.acceptance in ("keyed", "rejection"), "acceptance", f"is {self.acceptance!r}", "use keyed or rejection"
        )
        # Choosing among drafts by what was drawn would change what the accepted ones are distributed like.
        computes = [name for name in names if name not in _FREE]
        require(
            self.acceptance == "keyed" or not computes or (len(names) == 1 and self.draft_budget is not None),
            "acceptance", f"is rejection with {', '.join(names)}",
            f"set draft_budget and leave {computes[0] if computes else ''} as the only drafter",
        )  # fmt: skip

    def all_drafters(self) -> tuple[str, ...]:
        """Who drafts, in order."""
        if self.drafters is not None:
            return self.drafters
        return _FREE if self.draft_model is None else ("draft-model", *_FREE)

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

    def most_branches(self, device: torch.device) -> int:
        """In one pass."""
        return self.max_batch or (64 if device.type == "cpu" else 256)

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
