"""One branch of a request: its text, its events and its cost, from the outputs of one vLLM request."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

from branchwise.backends.live_branch import LiveBranch
from branchwise.backends.stream import BranchEvent, Broken
from branchwise.backends.vllm.client import CompletionOutput, Logprob, RequestOutput, SpecDecodeMetrics
from branchwise.backends.vllm.failures import aborted_error
from branchwise.core.errors import BackendError
from branchwise.core.path import StopReason, TopLogprob
from branchwise.core.usage import DrafterUsage, Usage

_STOP_REASONS: Mapping[str, StopReason] = {"stop": StopReason.END, "length": StopReason.LENGTH}
"""By vLLM's finish reason. vLLM gets no stop strings: the detokenizer finds them, as in the embedded engine."""


@dataclass(slots=True, eq=False)
class VLLMBranch(LiveBranch):
    """A branch that is one request to vLLM."""

    rank: int | None  # of the data-parallel copies, None if there is one
    drafter: str | None  # vLLM's speculation method
    reused: int | None = None  # None before the first output
    sampled: int = 0
    steps: int = 0
    drafts: SpecDecodeMetrics | None = None
    reason: StopReason | None = None  # None while it runs

    def receive(self, output: RequestOutput) -> None:
        """Append the new tokens, up to the branch's stop, and deliver them. Raises BackendError if vLLM aborted."""
        completion = output.outputs[0]
        if self.reused is None:
            self.reused = output.num_cached_tokens or 0
        self.steps += 1
        self.drafts = getattr(completion, "spec_decode_metrics", None)  # missing in older versions
        ends = self._detokenize(completion)
        finish = completion.finish_reason
        if self.reason is None and finish is not None and finish not in _STOP_REASONS:
            raise aborted_error(finish)
        self.sampled += len(ends)
        if ends or self.reason is not None:
            self._deliver_tokens(completion, ends)

    def _detokenize(self, completion: CompletionOutput) -> list[int]:
        """Return the length of the text after each new token; tokens after a stop string are dropped."""
        ends: list[int] = []
        finish = _STOP_REASONS.get(completion.finish_reason or "")
        last = len(completion.token_ids) - 1
        for place, token in enumerate(completion.token_ids):
            is_end_token = place == last and finish is StopReason.END  # it has no text
            ends.append(len(self.detokenizer.text) if is_end_token else self.detokenizer.push(token))
            if self.detokenizer.stopped:
                self.reason = StopReason.STOP
                return ends
        self.reason = finish
        return ends

    def _deliver_tokens(self, completion: CompletionOutput, ends: list[int]) -> None:
        tokens = tuple(completion.token_ids[: len(ends)])
        logprobs, top = None, None
        if completion.logprobs is not None:
            rows = completion.logprobs[: len(ends)]
            logprobs = tuple(row[token].logprob for row, token in zip(rows, tokens, strict=True))
            if self.sampling.logprobs:
                top = tuple(_alternatives(row, self.sampling.logprobs) for row in rows)
        self._deliver(self.tokens_event(tokens, tuple(ends), logprobs, top, final=self.reason is not None))

    def end(self, reason: StopReason) -> None:
        """Deliver the end of the branch."""
        cost = self._cost()
        self._deliver(self.ended_event(reason, cost.lost() if reason is StopReason.CANCELLED else cost))

    def fail(self, error: BackendError) -> None:
        """Deliver the failure of the branch."""
        self._deliver(Broken(self.copy, error, self._cost().lost()))

    def _deliver(self, event: BranchEvent) -> None:
        """Deliver an event in the event loop of the request."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.extension.loop.call_soon_threadsafe(self.extension.deliver, event)

    @property
    def abandoned(self) -> bool:
        """The event loop of the request is closed."""
        return self.extension.loop.is_closed()

    def _cost(self) -> Usage:
        """Return the cost of the branch, as far as vLLM reports it: see the module `backend`."""
        if self.reused is None:
            return Usage()
        usage = Usage(
            prompt=len(self.prefix),
            reused=self.reused,
            prefilled=len(self.prefix) - self.reused,
            sampled=self.sampled,
            forward_passes=self.sampled if self.drafter is None else self.steps,
        )
        if self.drafts is None or self.drafter is None:
            return usage
        accepted = min(self.sampled, sum(count * times for count, times in enumerate(self.drafts.histogram)))
        drafted = DrafterUsage(drafted=self.drafts.num_draft_tokens, accepted=accepted)
        return usage.model_copy(
            update={
                "drafted": drafted.drafted,
                "accepted": drafted.accepted,
                "drafters": {self.drafter: drafted},
                "forward_passes": 1.0 + sum(self.drafts.histogram),  # the prompt's pass samples the first token
            }
        )


def _alternatives(row: Mapping[int, Logprob], most: int) -> tuple[TopLogprob, ...]:
    """Return the `most` most probable tokens of a row, which holds the sampled token besides."""
    found = (TopLogprob(token, entry.logprob) for token, entry in row.items())
    return tuple(sorted(found, key=lambda one: -one.logprob)[:most])
