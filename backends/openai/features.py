"""What a server was seen to do."""

from dataclasses import dataclass

from branchwise.backends.base import Capabilities


@dataclass(frozen=True, slots=True)
class Features:
    """What requests may ask of a server, and what its answers hold. See probe.py and probe_chat.py."""

    model: str
    context: int
    tokens: bool
    """Whether it takes prompts as token ids, and shows those of its answers."""
    stops_shown: bool = False
    """A stop string is left in the text on request; otherwise stops are found here."""
    logprobs: bool = False
    alternatives: int = 0
    """Most alternatives for each token, by their ids."""
    usage: bool = False
    """Whether it tells what a request cost; otherwise that is counted and estimated here."""
    running_usage: bool = False
    """Whether it tells so with every piece, too: a request that is stopped is accounted for as well."""
    reuse: int = 0
    """Tokens in a block of the prefixes that it was seen to reuse; 0: it was not."""
    score: bool = False
    seeds: bool = False
    """Whether a request may have a seed."""
    continues: bool = False
    """Whether it goes on with the assistant's turn on request; otherwise that turn comes last, and it may."""
    limit: str = "max_tokens"
    """What the most tokens of an answer are called."""

    def capabilities(self) -> Capabilities:
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
            keyed=False,  # seeds are sent, and no server promises what they are good for
        )
