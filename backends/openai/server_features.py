"""Features of a server, as probe.py and probe_chat.py observe them."""

from dataclasses import dataclass

from branchwise.backends.base import Capabilities


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
    continues: bool = False
    """It continues the assistant's turn on request; otherwise that turn comes last, and some servers continue it."""
    max_tokens_field: str = "max_tokens"
    """Name of the field for the most tokens of a sample."""

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
            counted=self.usage,
            keyed=False,  # seeds are sent, but no server promises equal tokens for equal seeds
        )
