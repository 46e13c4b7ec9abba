"""A branch of a request that a model in this process runs. The engine and vLLM each extend it."""

from dataclasses import dataclass

from branchwise.backends.stream import Ended, Extension, Tokens
from branchwise.backends.tokenization.detokenizer import Detokenizer
from branchwise.core.path import StopReason, TopLogprob
from branchwise.core.sampling import Sampling
from branchwise.core.usage import Usage


@dataclass(slots=True, eq=False)
class LiveBranch:
    """One branch of a request, from its start to its last event."""

    extension: Extension
    copy: int
    key: int
    sampling: Sampling
    detokenizer: Detokenizer
    prefix: tuple[int, ...]
    """Tokens of the path that the branch continues, prompt included."""
    priority: int

    def tokens_event(
        self,
        tokens: tuple[int, ...],
        ends: tuple[int, ...],
        logprobs: tuple[float, ...] | None,
        top_logprobs: tuple[tuple[TopLogprob, ...], ...] | None,
        *,
        final: bool,
    ) -> Tokens:
        """Return the event for new tokens; its text keeps back what a stop string may still trim unless `final`."""
        return Tokens(self.copy, tokens, self.detokenizer.take(final), ends, logprobs, top_logprobs)

    def ended_event(self, reason: StopReason, cost: Usage) -> Ended:
        """Return the branch's last event; text after a stop string is reported as trimmed."""
        return Ended(self.copy, reason, cost, self.detokenizer.trimmed if reason is StopReason.STOP else "")
