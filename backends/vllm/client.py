"""What is used of vLLM's engine client (`vllm.engine.protocol.EngineClient`, of which `AsyncLLM` is one)."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from vllm.config import VllmConfig


class Logprob(Protocol):
    """A token's log-probability."""

    @property
    def logprob(self) -> float: ...


class Drafts(Protocol):
    """What speculation did for a request."""

    @property
    def histogram(self) -> Sequence[int]:
        """[accepted tokens] how many steps accepted so many."""

    @property
    def num_draft_tokens(self) -> int: ...


class Completion(Protocol):
    """New tokens of a request."""

    @property
    def token_ids(self) -> Sequence[int]: ...

    @property
    def logprobs(self) -> Sequence[Mapping[int, Logprob]] | None: ...

    @property
    def finish_reason(self) -> str | None: ...


class Output(Protocol):
    """What a request is told."""

    @property
    def outputs(self) -> Sequence[Completion]: ...

    @property
    def prompt_logprobs(self) -> Sequence[Mapping[int, Logprob] | None] | None: ...

    @property
    def num_cached_tokens(self) -> int | None: ...


class Client(Protocol):
    """The engine. All of it is called in the event loop it was started in."""

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
    ) -> AsyncGenerator[Output, None]: ...

    async def reset_prefix_cache(self) -> bool: ...

    def shutdown(self) -> None: ...
