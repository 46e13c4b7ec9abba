"""What the operator of a server allows its clients."""

from dataclasses import dataclass

from branchwise.core.errors import require


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one request may ask for, and that a server takes on at a time."""

    paths: int = 64
    """Paths of a question; of plain sampling, choices."""
    tokens: int = 65_536
    """Tokens that a question may sample, all its paths together; a request that says nothing may sample as many."""
    seconds: float = 600.0
    """Seconds that a question may take once it is its turn; then the best answer so far is returned."""
    body_bytes: int = 4 << 20
    """Bytes of a request's body."""
    questions: int = 8
    """Questions answered at a time."""
    queue: int = 64
    """Questions that wait for their turn; further ones are turned away."""
    queue_seconds: float = 60.0
    """Seconds that a question waits for its turn before it is turned away."""

    def __post_init__(self) -> None:
        for name in ("paths", "tokens", "seconds", "body_bytes", "questions", "queue_seconds"):
            value = getattr(self, name)
            require(value > 0, f"max_{name}", f"is {value}", "use a positive number")
        require(self.queue >= 0, "queue", f"is {self.queue}", "use 0 (nobody waits) or more")
