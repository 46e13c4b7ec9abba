"""Sampling parameters of a branch."""

from collections.abc import Sequence
from dataclasses import dataclass

from branchwise.core.errors import require
from branchwise.core.validation import finite_number, whole_number, wrong_type

_NUMBERS = (
    ("temperature", finite_number, "use 0 (greedy) or a positive number"),
    ("top_p", finite_number, "use a number above 0 and at most 1"),
    ("top_k", whole_number, "use 0 (off) or a positive number"),
    ("min_p", finite_number, "use a number from 0 (off) to below 1"),
    ("max_tokens", whole_number, "use a whole number, or leave it out"),
    ("logprobs", whole_number, "use 0 to 64"),
)
"""Fields, with a check of their type and the fix."""

_LEAST_TEMPERATURE, _MOST_TEMPERATURE = 1e-4, 1e4  # beyond them, logits overflow or vanish in float32
_MOST_COUNT = 2**31 - 1  # backends hold counts in 32 bits


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters. Filters apply after the temperature, in the order top-k, top-p, min-p.

    Equal seeds give equal tokens. The seed belongs to the run (`solve(..., seed=)`), not to these parameters.
    """

    temperature: float = 0.7
    """Divisor of the logits, up to 10,000; 0 takes the most probable token, as anything below 0.0001 does."""
    top_p: float = 1.0
    """Keep the smallest set of tokens whose probabilities sum to at least this."""
    top_k: int = 0
    """Keep this number of most probable tokens; 0 keeps all."""
    min_p: float = 0.0
    """Keep tokens at least this probable relative to the most probable one."""
    max_tokens: int | None = None
    """Maximum number of tokens per branch; None uses the task's limit."""
    stop: tuple[str, ...] = ()
    """Stop strings, in addition to those of the task."""
    logprobs: int = 0
    """Number of alternatives reported at each position. The token's own log-probability is always reported."""

    def __post_init__(self) -> None:
        for name, check, fix in _NUMBERS:
            if (value := getattr(self, name)) is not None or name != "max_tokens":
                object.__setattr__(self, name, check(name, value, fix))
        require(
            0 <= self.temperature <= _MOST_TEMPERATURE,
            "temperature",
            f"is {self.temperature}",
            f"use 0 (greedy) or a number up to {_MOST_TEMPERATURE:.0f}",
        )
        if self.temperature < _LEAST_TEMPERATURE:
            object.__setattr__(self, "temperature", 0.0)
        require(0 < self.top_p <= 1, "top_p", f"is {self.top_p}", "use a number above 0 and at most 1")
        require(0 <= self.top_k <= _MOST_COUNT, "top_k", f"is {self.top_k}", f"use 0 (off) to {_MOST_COUNT}")
        require(0 <= self.min_p < 1, "min_p", f"is {self.min_p}", "use a number from 0 (off) to below 1")
        require(
            self.max_tokens is None or 1 <= self.max_tokens <= _MOST_COUNT,
            "max_tokens",
            f"is {self.max_tokens}",
            f"use 1 to {_MOST_COUNT}, or leave it out",
        )
        require(0 <= self.logprobs <= 64, "logprobs", f"is {self.logprobs}", "use 0 to 64")
        require(not isinstance(self.stop, str), "stop", "is a bare string", "use a tuple of strings, such as ('\\n',)")
        object.__setattr__(self, "stop", _strings(self.stop))
        require(all(self.stop), "stop", "holds an empty string", "leave it out")


def _strings(values: object) -> tuple[str, ...]:
    """Return a sequence of strings as a tuple. Raises ConfigError for anything else."""
    if isinstance(values, Sequence) and all(isinstance(value, str) for value in values):
        return tuple(values)
    raise wrong_type("stop", values, "use a tuple of strings, such as ('\\n',)")
