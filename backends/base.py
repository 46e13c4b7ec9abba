"""The interface of a backend: strategies and the driver call it, each package beside this module implements it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from branchwise.backends.stream import Extension
from branchwise.core.errors import BackendError, ContextLengthError
from branchwise.core.messages import Messages
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.core.usage import Usage


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Features of a backend. Callers adapt to these, never to the name of a backend."""

    model: str
    """Name of the model, for results."""
    context: int
    """Most tokens of a path, prompt included."""
    token_in: bool = True
    """Paths are continued by their tokens; otherwise by their text, which the server tokenizes again."""
    token_out: bool = True
    """Sampled tokens are returned, with the text lengths at which they end; otherwise paths are cut between words."""
    continues: bool = True
    """Paths are continued after sampled text; otherwise every path starts at its prompt."""
    prefix_reuse: int = 1
    """Block size in tokens of the prefix cache; 0: prefixes are not cached."""
    per_branch_cancel: bool = True
    """One branch of a request can be cancelled; otherwise a request stops when all its branches are cancelled."""
    logprobs: bool = True
    """The log-probability of each sampled token is returned."""
    top_k_logprobs: int = 64
    """Most alternatives returned with each token."""
    score: bool = True
    """Log-probabilities of given continuations are available."""
    keyed: bool = True
    """Equal keys give equal tokens."""
    counted: bool = True
    """The backend measures usage; otherwise input tokens are estimated."""
    changes: tuple[str, ...] = ()
    """Descriptions of everything that changes the model's distribution, such as quantized weights."""
    notes: tuple[str, ...] = ()
    """Further limits that results state."""

    def check_prompt(self, tokens: int, *, exact: bool = True) -> None:
        """Raise ContextLengthError if a prompt leaves no room for a sampled token. `tokens` may be a lower bound."""
        if tokens >= self.context:
            length = f"{tokens} tokens long" if exact else f"at least {tokens} tokens long"
            raise ContextLengthError(
                "question",
                f"its prompt is {length}, the model's context is {self.context}",
                "shorten it, or use a model with a longer context",
            )


@dataclass(frozen=True, slots=True)
class ExtendRequest:
    """Request to sample one branch for each key from `path`. `sampling.max_tokens` is set.

    The path is continued after its last token: the tokens of a stop string and their text (`Path.whole_text`) are part
    of it. A key equal to that of the path's last segment continues the same sample.
    """

    path: Path
    keys: tuple[int, ...]
    sampling: Sampling
    priority: int = 0
    """Requests with lower values are scheduled first."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Log-probabilities of continuations, and the usage of computing them."""

    logprobs: tuple[tuple[float, ...], ...]
    """[continuations][tokens], nats."""
    cost: Usage


class Backend(ABC):
    """A model. Safe to use from several event loops at once."""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities: ...

    @abstractmethod
    async def root(self, messages: Messages, key: int) -> Path:
        """Return the path of a prompt. User content is tokenized without special tokens.

        Raises ConfigError for a prompt that the model does not accept, such as one longer than its context, and
        BackendError.
        """

    @abstractmethod
    def extend(self, request: ExtendRequest) -> Extension:
        """Start the branches of a request. They run until they end or are cancelled.

        Needs a running event loop. Raises BackendError if the request cannot start, for example because the backend
        is closed; then none of its branches runs.
        """

    @abstractmethod
    async def score(self, path: Path, continuations: Sequence[str]) -> Scores:
        """Return log-probabilities of texts after `path`, which they share. Raises BackendError."""

    @abstractmethod
    async def force(self, path: Path, text: str) -> Path:
        """Return `path` with `text` appended as if the model had sampled it. Special tokens in it are honoured.

        Raises BackendError.
        """

    async def tokenize(self, text: str | Messages) -> tuple[int, ...] | None:
        """Return the tokens of a text alone, or of a prompt as the chat template writes it, of any length.

        None: this backend has no tokenizer. Raises ConfigError for a prompt that the model does not accept, and
        BackendError.
        """
        return None

    @abstractmethod
    def release(self, paths: Sequence[Path]) -> None:
        """Evict these paths first: they will not be continued."""

    @abstractmethod
    def clear(self) -> None:
        """Evict everything that no running branch uses, so that usage is measured with an empty cache."""

    @abstractmethod
    async def close(self) -> None:
        """Break running branches and free all resources. Safe to call twice."""


def closed_error() -> BackendError:
    """Return the error for a request to a closed backend."""
    return BackendError("the backend is closed", retryable=False, hint="make another one")
