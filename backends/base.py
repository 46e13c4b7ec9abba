"""The one seam to a model: what every backend offers, and what it says it can do."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from branchwise.backends.stream import Extension
from branchwise.core.errors import BackendError, require
from branchwise.core.messages import Messages
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.core.usage import Usage


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do. Callers degrade by these, never by a backend's name."""

    model: str
    """The model's name, for results."""
    context: int
    """Most tokens of a path, prompt included."""
    token_in: bool = True
    """Paths are continued by their tokens; otherwise by their text, which the server tokenizes again."""
    token_out: bool = True
    """Generated tokens are shown, with the text they end at; otherwise paths have text only and can't be cut."""
    prefix_reuse: int = 1
    """Shared prefixes are computed once, in blocks of this many tokens; 0: not at all."""
    per_branch_cancel: bool = True
    """One branch of a request can be stopped; otherwise a request stops when all its branches are cancelled."""
    logprobs: bool = True
    """The log-probability of each generated token is reported."""
    top_k_logprobs: int = 64
    """Most alternatives reported with each token."""
    score: bool = True
    """Log-probabilities of given continuations."""
    keyed: bool = True
    """The same key gives the same tokens."""
    counted: bool = True
    """What a request cost is told by whoever runs the model; otherwise input tokens are estimated."""
    changes: tuple[str, ...] = ()
    """Whatever changes the model's distribution (quantized weights, approximate acceptance), in words."""

    def check_prompt(self, tokens: int) -> None:
        """Raises ConfigError for a prompt of so many tokens that leaves no room for another."""
        require(
            tokens < self.context,
            "question", f"its prompt is {tokens} tokens long, the model's context is {self.context}",
            "shorten it, or use a model with a longer context",
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ExtendRequest:
    """Grow one branch for each key from `path`; `sampling.max_tokens` is set.

    `path` goes on where its last token ended: a stop's own tokens are part of it, and so is their text
    (`Path.whole_text`). A key that the path's last segment already has continues that very sample.
    """

    path: Path
    keys: tuple[int, ...]
    sampling: Sampling
    priority: int = 0  # lower is served first


@dataclass(frozen=True, slots=True)
class Scores:
    """[continuations][tokens] log-probabilities in nats, and what they cost."""

    logprobs: tuple[tuple[float, ...], ...]
    cost: Usage


class Backend(ABC):
    """A model. Safe to use from several event loops at once."""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities: ...

    @abstractmethod
    async def root(self, messages: Messages, key: int) -> Path:
        """The path of a prompt. User content is tokenized without special tokens.

        Raises ConfigError for a prompt the model cannot take (longer than its context, say), BackendError.
        """

    @abstractmethod
    def extend(self, request: ExtendRequest) -> Extension:
        """Start the branches of `request`; they run until they end or are cancelled.

        Call it inside a running event loop. Raises BackendError when the request can't be started (the
        backend is closed, say); then none of its branches runs.
        """

    @abstractmethod
    async def score(self, path: Path, continuations: Sequence[str]) -> Scores:
        """Log-probabilities of texts after `path`, in one pass that shares the path. Raises BackendError."""

    @abstractmethod
    async def force(self, path: Path, text: str) -> Path:
        """`path` with `text` appended as if the model had written it; control tokens in it are honoured.

        Raises BackendError.
        """

    @abstractmethod
    def release(self, paths: Sequence[Path]) -> None:
        """These paths will not be continued: what is held for them may go first."""

    @abstractmethod
    def clear(self) -> None:
        """Drop everything held for no running branch, so that what follows is counted from nothing."""

    @abstractmethod
    async def close(self) -> None:
        """Stop what runs and free what is held; branches under way break. Safe to call twice."""


def closed_error() -> BackendError:
    """What a request to a closed backend gets."""
    return BackendError("the backend is closed", retryable=False, hint="make another one")
