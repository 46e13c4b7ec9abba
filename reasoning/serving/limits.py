"""The limits that the operator of a server sets."""

from dataclasses import dataclass

from branchwise.core.errors import require


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
