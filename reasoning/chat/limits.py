"""The limits that the operator of a server sets."""

from dataclasses import dataclass

from branchwise.core.budget import Budget
from branchwise.core.errors import require
from branchwise.strategies.actions import DEFAULT_PATHS
from branchwise.strategies.options import options_of
from branchwise.strategies.strategy import AnyStrategy

_MULTIPLIERS = ("answers", "keep", "parallel", "regrow", "rollouts", "votes", "width")
"""Options of strategies that multiply branches; `paths` and `most` count branches themselves."""
_MIN_MULTIPLIER = 8  # such an option may be this large even if the limit on paths is lower
_MAX_STEPS = 256
"""Maximum of the options that count the steps of a path. A search may have this many nodes for each path."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one request, and of how many questions a server answers at the same time."""

    paths: int = 64
    """Maximum number of paths per question; choices of plain sampling."""
    tokens: int = 65_536
    """Maximum number of sampled tokens per question, all paths together; the default budget too."""
    seconds: float = 600.0
    """Maximum number of seconds per question after its wait in the queue; the best answer so far is returned then."""
    body_bytes: int = 4 << 20
    """Maximum size of a request's body in bytes."""
    questions: int = 8
    """Maximum number of questions that are answered at the same time."""
    queue: int = 64
    """Maximum number of waiting questions; further ones are rejected."""
    queue_seconds: float = 60.0
    """Maximum number of seconds that a question waits before it is rejected."""

    def __post_init__(self) -> None:
        for name in ("paths", "tokens", "seconds", "body_bytes", "questions", "queue_seconds"):
            value = getattr(self, name)
            require(value > 0, f"max_{name}", f"is {value}", "use a positive number")
        require(self.queue >= 0, "queue", f"is {self.queue}", "use 0 (no question waits) or more")

    def check_paths(self, paths: int | None) -> int | None:
        """Return the paths of a strategy; None leaves them to the strategy. Raises ConfigError beyond the limit."""
        if paths is None:
            return self.paths if self.paths < DEFAULT_PATHS else None
        require(1 <= paths <= self.paths, "paths", f"is {paths}", f"use 1 to {self.paths}")
        return paths

    def check_options(self, strategy: AnyStrategy) -> None:
        """Raise ConfigError if an option of the strategy would sample more than the limit on paths allows."""
        maximum = {"paths": self.paths, "most": self.paths}
        maximum |= dict.fromkeys(_MULTIPLIERS, max(self.paths, _MIN_MULTIPLIER))
        maximum |= {"max_steps": _MAX_STEPS, "max_level": _MAX_STEPS, "nodes": self.paths * _MAX_STEPS}
        for option in options_of(strategy).values():
            most = maximum.get(option.name)
            if isinstance(option.value, int) and most is not None:
                require(option.value <= most, "strategy", f"{option.name} is {option.value}", f"use at most {most}")

    def budget(self, tokens: int | None, seconds: float | None) -> Budget:
        """Return the requested budget; what is None is the limit. Raises ConfigError beyond a limit."""
        tokens = self.tokens if tokens is None else tokens
        seconds = self.seconds if seconds is None else seconds
        require(tokens <= self.tokens, "budget_tokens", f"is {tokens}", f"use at most {self.tokens}")
        require(seconds <= self.seconds, "budget_seconds", f"is {seconds:g}", f"use at most {self.seconds:g}")
        return Budget(tokens, seconds)
