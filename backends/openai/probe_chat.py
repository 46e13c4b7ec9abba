"""Probe the features of a server that takes and returns text only."""

from collections.abc import Iterator
from dataclasses import replace

from branchwise.backends.openai.chat import ChatEndpoint
from branchwise.backends.openai.probe import ProbeSample, block_size, context_length, probe_sample, probe_stop
from branchwise.backends.openai.responses import ModelCard
from branchwise.backends.openai.server_errors import ServerError
from branchwise.backends.openai.server_features import ServerFeatures
from branchwise.backends.openai.transport import Transport
from branchwise.core.path import Path
from branchwise.core.question import as_messages
from branchwise.core.sampling import Sampling

_ONE_TOKEN = Sampling(temperature=0, max_tokens=1)


async def probe_chat(transport: Transport, card: ModelCard) -> ServerFeatures:
    """Return the features of a server of chat completions.

    Raises ServerError if the server refuses every chat, ConfigError if its context length is unknown.
    """
    context = context_length(transport, card.context)
    numbers = ", ".join(str(number) for number in range(1, min(100, context // 8)))
    root = _root(f"Go on counting: {numbers}")
    most = ServerFeatures(card.id, context, tokens=False, logprobs=True, usage=True, running_usage=True, seeds=True)
    for features in _variants(most):
        sample = await probe_sample(transport, ChatEndpoint(features, transport.settings.extra_body), root)
        if sample is not None:
            return await _probe_details(transport, _observed(features, sample), root, sample)
    raise ServerError(
        "the server refuses every chat, even without optional fields",
        retryable=False,
        hint="check model and base_urls",
    )


async def _probe_details(
    transport: Transport, features: ServerFeatures, root: Path, first: ProbeSample
) -> ServerFeatures:
    """Return the features with stop strings, reuse and continued turns probed."""
    endpoint = ChatEndpoint(features, transport.settings.extra_body)
    includes_stop, cached = await probe_stop(transport, endpoint, root, first)
    reuse = 0 if first.usage is None else block_size(first.usage.prompt_tokens, cached)
    features = replace(features, includes_stop=includes_stop, reuse=reuse)
    return replace(features, continues=await _continues(transport, features))


async def _continues(transport: Transport, features: ServerFeatures) -> bool:
    """Return True if the request to continue the assistant's turn has an effect: the prompt then has fewer tokens,
    because the turn is not closed.

    Some servers continue a turn that comes last without the request, some refuse the request.
    """
    begun = Path(_root("Count to nine."), 1, (), "One, two, three,")
    extra = transport.settings.extra_body
    continuing = ChatEndpoint(replace(features, continues=True), extra)
    requested = await probe_sample(transport, continuing, begun, _ONE_TOKEN)
    plain_endpoint = ChatEndpoint(replace(features, continues=False), extra)
    plain = await probe_sample(transport, plain_endpoint, begun, _ONE_TOKEN)
    if requested is None:
        return False
    if plain is None or requested.usage is None or plain.usage is None:
        return True
    return requested.usage.prompt_tokens < plain.usage.prompt_tokens


def _root(text: str) -> Path:
    return Path(None, 1, (), "", messages=as_messages(text))


def _variants(most: ServerFeatures) -> Iterator[ServerFeatures]:
    """Yield the features to request, from most to least: servers may refuse fields that they do not know."""
    for field in ("max_tokens", "max_completion_tokens"):
        full = replace(most, max_tokens_field=field)
        yield full
        yield replace(full, running_usage=False)
        yield replace(full, running_usage=False, logprobs=False)
        yield replace(full, running_usage=False, logprobs=False, seeds=False)
        yield replace(full, running_usage=False, logprobs=False, seeds=False, usage=False)


def _observed(requested: ServerFeatures, sample: ProbeSample) -> ServerFeatures:
    """Return the requested features that the sample shows."""
    reported = [chunk.usage is not None and chunk.usage.prompt_tokens > 0 for chunk in sample.chunks]
    with_text = [one for one, chunk in zip(reported, sample.chunks, strict=True) if chunk.text]
    return replace(
        requested,
        logprobs=any(chunk.logprobs for chunk in sample.chunks),
        usage=any(reported),
        running_usage=requested.running_usage and bool(with_text) and all(with_text),
    )
