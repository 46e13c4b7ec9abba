"""Probe the features of a server that takes and returns text only."""

from dataclasses import replace

from branchwise.backends.openai.chat import ChatEndpoint
from branchwise.backends.openai.negotiation import negotiate
from branchwise.backends.openai.probe import all_features, block_size, find_context, probe_stop
from branchwise.backends.openai.probe_continuation import find_continuation
from branchwise.backends.openai.responses import ModelCard
from branchwise.backends.openai.sampling_probe import Prober, ProbeSample, is_refusal
from branchwise.backends.openai.server_errors import ServerError
from branchwise.backends.openai.server_features import ServerFeatures
from branchwise.backends.openai.transport import Transport
from branchwise.core.path import Path
from branchwise.core.question import as_messages


async def probe_chat(transport: Transport, card: ModelCard) -> ServerFeatures:
    """Return the features of a server of chat completions. Raises ServerError if the server refuses every chat."""
    context = find_context(transport, card.context)
    numbers = ", ".join(str(number) for number in range(1, min(100, context.length // 8)))
    root = Path(None, 1, (), "", messages=as_messages(f"Go on counting: {numbers}"))
    most = all_features(card, context, tokens=False)
    prober = Prober(transport)
    try:
        features, sample = await negotiate(prober, ChatEndpoint, most, root)
    except ServerError as error:
        raise _refused(error, card) from error
    return await _probe_details(prober, _observed(features, sample), root, sample)


def _refused(error: ServerError, card: ModelCard) -> ServerError:
    """Return the error for a server that refuses even a chat without optional fields, in the server's own words."""
    if not is_refusal(error, optional=True):
        return error
    hint = "check base_urls and model"
    if card.others:
        hint = f"the server lists the models {', '.join(card.others[:10])}, check model"
    problem = f"the server refuses every chat, even without optional fields: {error.problem}"
    return ServerError(problem, retryable=False, hint=hint, status=error.status)


async def _probe_details(prober: Prober, features: ServerFeatures, root: Path, first: ProbeSample) -> ServerFeatures:
    """Return the features with stop strings, reuse and the continuation of text probed."""
    includes_stop, cached = await probe_stop(prober, prober.endpoint(ChatEndpoint, features), root, first)
    reuse = 0 if first.usage is None else block_size(first.usage.prompt_tokens, cached)
    features = replace(features, includes_stop=includes_stop, reuse=reuse)
    return replace(features, continuation=await find_continuation(prober, features))


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
