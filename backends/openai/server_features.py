"""Features of a server, as probe.py and probe_chat.py observe them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from branchwise.backends.base import Capabilities

DEFAULT_CONTEXT = 4096
"""Context length in tokens that is assumed if the server does not report its own."""
Continuation = Literal["plain", "fields", "flag", "transcript"]
"""Way in which a server continues text. plain: the assistant's turn comes last (llama.cpp, Anthropic, OpenRouter).
fields: the request has `continue_final_message` too (vLLM, SGLang). flag: the turn has `prefix` (Mistral, DeepSeek).
transcript: /v1/completions after the conversation as plain text."""


@dataclass(frozen=True, slots=True)
class ServerFeatures:
    """Request fields that a server accepts, and response fields that it returns."""

    model: str
    context: int
    tokens: bool
    """It takes prompts as token ids and returns those of its samples."""
    includes_stop: bool = False
    """It leaves a stop string in the text on request; otherwise the backend searches for stop strings."""
    logprobs: bool = False
    alternatives: int = 0
    """Most alternatives for each token, by their ids."""
    usage: bool = False
    """It reports the usage of a request; otherwise the backend counts samples and estimates prompts."""
    running_usage: bool = False
    """It reports the usage with every event, so that cancelled requests are counted, too."""
    reuse: int = 0
    """Block size of its prefix cache in tokens; 0 if no reuse was observed."""
    score: bool = False
    seeds: bool = False
    """It accepts a seed."""
    greedy: bool = True
    """It accepts temperature 0."""
    temperature: bool = True
    """It accepts a temperature; otherwise it samples at its own."""
    continuation: Continuation | None = None
    """Way in which it continues text; None if it does not, or if it continues tokens."""
    max_tokens_field: str = "max_tokens"
    """Name of the field for the most tokens of a sample."""
    context_reported: bool = True
    """False if `context` is assumed."""

    def capabilities(self) -> Capabilities:
        """Return the backend's capabilities on such a server."""
        return Capabilities(
            model=self.model,
            context=self.context,
            token_in=self.tokens,
            token_out=self.tokens,
            prefix_reuse=self.reuse,
            per_branch_cancel=True,  # each branch is a request of its own
            logprobs=self.logprobs,
            top_k_logprobs=self.alternatives,
            score=self.score,
            continues=self.tokens or self.continuation is not None,
            counted=self.usage,
            keyed=False,  # seeds are sent, but no server promises equal tokens for equal seeds
            notes=tuple(self._notes()),
        )

    def _notes(self) -> Iterator[str]:
        if not self.context_reported:
            yield f"the server does not report its context: {self.context} tokens are assumed (set it with context)"
        if not self.temperature:
            yield "the server refuses other temperatures than its own, so none is sent"
        if self.continuation == "transcript":
            yield "the server closes the assistant's turn: paths are continued after the conversation as plain text"
