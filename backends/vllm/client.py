"""The part of vLLM's engine client that the backend uses (`vllm.engine.protocol.EngineClient`, such as `AsyncLLM`)."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from vllm.config import VllmConfig


class Logprob(Protocol):
    """The log-probability of a token."""

    @property
    def logprob(self) -> float: ...


class SpecDecodeMetrics(Protocol):
    """Speculation in one request."""

    @property
    def histogram(self) -> Sequence[int]:
        """[accepted tokens] the number of steps that accepted this many."""

    @property
    def num_draft_tokens(self) -> int: ...


class CompletionOutput(Protocol):
    """New tokens of a request."""

    @property
    def token_ids(self) -> Sequence[int]: ...

    @property
    def logprobs(self) -> Sequence[Mapping[int, Logprob]] | None: ...

    @property
    def finish_reason(self) -> str | None: ...


class RequestOutput(Protocol):
    """One output of a request."""

    @property
    def outputs(self) -> Sequence[CompletionOutput]: ...

    @property
    def prompt_logprobs(self) -> Sequence[Mapping[int, Logprob] | None] | None: ...

    @property
    def num_cached_tokens(self) -> int | None: ...


class Client(Protocol):
    """The engine client. All of it must be called in the event loop that it was started in."""

    @property
    def vllm_config(self) -> "VllmConfig": ...

    def generate(
        self,
        prompt: Mapping[str, object],
        sampling_params: object,
        request_id: str,
        *,
        lora_request: object | None = None,
        priority: int = 0,
        data_parallel_rank: int | None = None,
    ) -> AsyncGenerator[RequestOutput, None]: ...

    async def reset_prefix_cache(self) -> bool: ...

    def shutdown(self) -> None: ...
