"""How tokens are drawn from a model's distribution."""

import math
from dataclasses import dataclass

from branchwise.core.errors import require


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the tokens of a branch are drawn. Filters apply after the temperature: top-k, top-p, min-p.

    Equal seeds give equal tokens: the seed belongs to the run (`solve(..., seed=)`), not here.
    """

    temperature: float = 0.7
    """Divides the logits; 0 takes the most probable token."""
    top_p: float = 1.0
    """Keep the fewest tokens whose probabilities sum to at least this."""
    top_k: int = 0
    """Keep this many most probable tokens; 0 keeps all."""
    min_p: float = 0.0
    """Keep tokens at least this probable relative to the most probable one."""
    max_tokens: int | None = None
    """Most tokens of one branch; None leaves it to the task."""
    stop: tuple[str, ...] = ()
    """A branch ends where one of these strings appears; they are added to the task's own."""
    logprobs: int = 0
    """How many alternatives to report with each token's log-probability (the token's own is always reported)."""

    def __post_init__(self) -> None:
        require(
            math.isfinite(self.temperature) and self.temperature >= 0,
            "temperature", f"is {self.temperature}", "use 0 (greedy) or a positive number",
        )  # fmt: skip
        require(0 < self.top_p <= 1, "top_p", f"is {self.top_p}", "use a number above 0 and at most 1")
        require(self.top_k >= 0, "top_k", f"is {self.top_k}", "use 0 (off) or a positive number")
        require(0 <= self.min_p < 1, "min_p", f"is {self.min_p}", "use a number from 0 (off) to below 1")
        require(
            self.max_tokens is None or self.max_tokens >= 1,
            "max_tokens", f"is {self.max_tokens}", "use at least 1, or leave it out",
        )  # fmt: skip
        require(not isinstance(self.stop, str), "stop", "is a bare string", "use a tuple of strings, such as ('\\n',)")
        require(all(self.stop), "stop", "holds an empty string", "leave it out")
        require(0 <= self.logprobs <= 64, "logprobs", f"is {self.logprobs}", "use 0 to 64")
