"""Samples that probe a server: one small request each, with the fields that the server is known to accept."""

from dataclasses import replace
from typing import NamedTuple, TypeVar

from branchwise.backends.base import ExtendRequest
from branchwise.backends.openai.endpoint import Endpoint, InvalidStreamError, StreamedError
from branchwise.backends.openai.responses import BranchChunk, ReportedUsage
from branchwise.backends.openai.retry import retry_policy
from branchwise.backends.openai.server_errors import ServerError, malformed_response, streamed_error
from branchwise.backends.openai.server_features import ServerFeatures
from branchwise.backends.openai.transport import Transport
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling

_SAMPLE_TOKENS = 8
_TEMPERATURE = 0.7
"""For servers that refuse temperature 0."""

EndpointT = TypeVar("EndpointT", bound=Endpoint)


class ProbeSample(NamedTuple):
    """One sampled response."""

    chunks: list[BranchChunk]
    text: str
    usage: ReportedUsage | None

    @property
    def cached(self) -> int:
        """Prompt tokens that came from the prefix cache; 0 if the server does not report them."""
        return (self.usage.cached if self.usage is not None else None) or 0

    @property
    def prompt_tokens(self) -> int | None:
        """Prompt tokens that the server reports, or None."""
        return self.usage.prompt_tokens if self.usage is not None and self.usage.prompt_tokens else None


class Prober:
    """Sender of probes over one transport."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    def endpoint(self, kind: type[EndpointT], features: ServerFeatures) -> EndpointT:
        """Return an endpoint with these features."""
        return kind(features, self.transport.settings.extra_body)

    async def try_sample(self, endpoint: Endpoint, path: Path, sampling: Sampling | None = None) -> ProbeSample | None:
        """Return one sample as `sample` does, or None if the server refuses the request."""
        try:
            return await self.sample(endpoint, path, sampling)
        except ServerError as error:
            if not is_refusal(error, optional=endpoint.optional):
                raise
            return None

    async def sample(self, endpoint: Endpoint, path: Path, sampling: Sampling | None = None) -> ProbeSample:
        """Return one sample, as greedy as the server accepts. Raises ServerError."""
        sampling = replace(
            sampling or Sampling(max_tokens=_SAMPLE_TOKENS), temperature=0 if endpoint.features.greedy else _TEMPERATURE
        )
        request = ExtendRequest(path, (1,), sampling)
        transport, body, failed = self.transport, endpoint.body(request, 1), None

        async def attempt() -> list[BranchChunk]:
            nonlocal failed
            failed = transport.replicas.choose(b"", failed)
            reader = endpoint.reader(request)
            try:
                async with transport.stream(failed, endpoint.path, body) as events:
                    return [reader.read(data) async for data in events if data.strip() != b"[DONE]"]
            except StreamedError as error:
                raise streamed_error(failed.url, error.reported, transport.settings.key()) from None
            except (InvalidStreamError, ValueError) as error:
                raise malformed_response(failed.url, f"sends an invalid stream ({error})", status=422) from error

        def has_alternative() -> bool:
            return failed is not None and transport.replicas.has_alternative(failed)

        # Some servers answer unknown fields with 500, so that a repetition does not help.
        policy = retry_policy(
            transport.settings, may_retry=lambda: True, has_alternative=has_alternative, final_statuses=(422, 500)
        )
        chunks: list[BranchChunk] = await policy(attempt)
        if not chunks:
            raise malformed_response("the server", "answers without events", status=422)
        usage = next((chunk.usage for chunk in reversed(chunks) if chunk.usage is not None), None)
        return ProbeSample(chunks, "".join(chunk.text for chunk in chunks), usage)


def is_refusal(error: ServerError, *, optional: bool = False) -> bool:
    """Return True if the server may accept another request. `optional`: the endpoint need not exist."""
    if error.status in (401, 403) or (error.status == 404 and not optional):
        return False
    return error.status in (422, 500) or not error.retryable
