"""One branch: what vLLM drew for it so far, and what it cost."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

from branchwise.backends.stream import BranchEvent, Broken, Ended, Extension, Tokens
from branchwise.backends.tokenization.detokenizer import TextStream
from branchwise.backends.vllm.client import Completion, Drafts, Logprob, Output
from branchwise.backends.vllm.failures import given_up
from branchwise.core.errors import BackendError
from branchwise.core.path import StopReason, TopLogprob
from branchwise.core.sampling import Sampling
from branchwise.core.usage import Drafted, Usage

_REASONS: Mapping[str, StopReason] = {"stop": StopReason.END, "length": StopReason.LENGTH}
"""What vLLM calls them. It is told no stop strings: these are found here, as the embedded engine finds them."""


@dataclass(slots=True, eq=False)
class LiveBranch:
    """One branch of a request; it is a request of its own to vLLM, of one sample."""

    extension: Extension
    copy: int
    key: int
    sampling: Sampling
    text: TextStream
    given: tuple[int, ...]
    priority: int
    rank: int | None  # of the model's copies, where there are several
    drafter: str | None  # who drafts
    reused: int | None = None  # None until vLLM has said so
    sampled: int = 0
    steps: int = 0
    drafts: Drafts | None = None
    reason: StopReason | None = None  # None while it runs

    def take(self, output: Output) -> None:
        """Read what vLLM drew, up to where the branch ends, and hand it out. Raises BackendError when vLLM gave up."""
        completion = output.outputs[0]
        if self.reused is None:
            self.reused = output.num_cached_tokens or 0
        self.steps += 1
        self.drafts = getattr(completion, "spec_decode_metrics", None)  # not in older versions
        ends = self._read(completion)
        finish = completion.finish_reason
        if self.reason is None and finish is not None and finish not in _REASONS:
            raise given_up(finish)
        self.sampled += len(ends)
        if ends or self.reason is not None:
            self._hand_out(completion, ends)

    def _read(self, completion: Completion) -> list[int]:
        """The text's length after each new token; tokens behind a stop string are dropped."""
        ends: list[int] = []
        finish = _REASONS.get(completion.finish_reason or "")
        for left, token in zip(range(len(completion.token_ids))[::-1], completion.token_ids, strict=True):
            says_nothing = left == 0 and finish is StopReason.END  # it ends the turn
            ends.append(len(self.text.text) if says_nothing else self.text.push(token))
            if self.text.stopped:
                self.reason = StopReason.STOP
                return ends
        self.reason = finish
        return ends

    def _hand_out(self, completion: Completion, ends: list[int]) -> None:
        tokens = tuple(completion.token_ids[: len(ends)])
        logprobs, top = None, None
        if completion.logprobs is not None:
            rows = completion.logprobs[: len(ends)]
            logprobs = tuple(row[token].logprob for row, token in zip(rows, tokens, strict=True))
            if self.sampling.logprobs:
                top = tuple(_alternatives(row, self.sampling.logprobs) for row in rows)
        text = self.text.take(self.reason is not None)
        self.post(Tokens(self.copy, tokens, text, tuple(ends), logprobs, top))

    def end(self, reason: StopReason) -> None:
        """Say that it ended."""
        cost = self._cost()
        trimmed = self.text.trimmed if reason is StopReason.STOP else ""
        self.post(Ended(self.copy, reason, cost.lost() if reason is StopReason.CANCELLED else cost, trimmed))

    def fail(self, error: BackendError) -> None:
        """Say that it failed."""
        self.post(Broken(self.copy, error, self._cost().lost()))

    def post(self, event: BranchEvent) -> None:
        """Deliver an event in the event loop that asked."""
        with contextlib.suppress(RuntimeError):  # it is closed: nobody waits any more
            self.extension.loop.call_soon_threadsafe(self.extension.deliver, event)

    @property
    def abandoned(self) -> bool:
        """Whether nobody can hear it any more."""
        return self.extension.loop.is_closed()

    def _cost(self) -> Usage:
        """What it cost, as far as vLLM tells: see the module `backend`."""
        if self.reused is None:
            return Usage()
        spent = Usage(
            prompt=len(self.given),
            reused=self.reused,
            prefilled=len(self.given) - self.reused,
            sampled=self.sampled,
            forward_passes=self.sampled if self.drafter is None else self.steps,
        )
        if self.drafts is None or self.drafter is None:
            return spent
        accepted = min(self.sampled, sum(count * times for count, times in enumerate(self.drafts.histogram)))
        drafted = Drafted(drafted=self.drafts.num_draft_tokens, accepted=accepted)
        return spent.model_copy(
            update={
                "drafted": drafted.drafted,
                "accepted": drafted.accepted,
                "drafters": {self.drafter: drafted},
                "forward_passes": 1.0 + sum(self.drafts.histogram),  # the first token comes with the prompt's pass
            }
        )


def _alternatives(row: Mapping[int, Logprob], most: int) -> tuple[TopLogprob, ...]:
    """The most probable of a row, which holds the token that was drawn besides."""
    found = (TopLogprob(token, entry.logprob) for token, entry in row.items())
    return tuple(sorted(found, key=lambda one: -one.logprob)[:most])
