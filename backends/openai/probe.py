"""Probe a server's features with a few small requests. probe_chat.py does so for servers without token ids."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from branchwise.backends.base import ExtendRequest
from branchwise.backends.openai.completions import CompletionsEndpoint
from branchwise.backends.openai.endpoint import Endpoint, InvalidStreamError, Json, StreamedError
from branchwise.backends.openai.responses import BranchChunk, ModelCard, ModelCards, ReportedUsage, Tokenized
from branchwise.backends.openai.retry import retry_policy
from branchwise.backends.openai.scoring import score_tokens
from branchwise.backends.openai.server_errors import ServerError
from branchwise.backends.openai.server_features import ServerFeatures
from branchwise.backends.openai.tokenizer import RemoteTokenizer
from branchwise.backends.openai.transport import Transport
from branchwise.core.errors import ConfigError
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling

_PROMPT_TOKENS = 256
"""Length of the prompt that shows the reuse of prefixes, if the context has room for it."""
_ALTERNATIVES = (64, 20, 5, 1)
_SAMPLE_TOKENS = 8


class ProbeSample(NamedTuple):
    """One sampled response."""

    chunks: list[BranchChunk]
    text: str
    usage: ReportedUsage | None

    @property
    def cached(self) -> int:
        """Prompt tokens that came from the prefix cache; 0 if the server does not report them."""
        return (self.usage.cached if self.usage is not None else None) or 0


async def find_model(transport: Transport) -> ModelCard:
    """Return the model to use. Raises ConfigError if the settings name none and the server has several."""
    wanted = transport.settings.model
    try:
        cards = (await transport.request("/v1/models", None, ModelCards)).data
    except ServerError as error:
        if wanted is None or error.retryable or error.status in (401, 403):
            raise
        cards = []  # some servers have no list of models
    if wanted is not None:
        return next((card for card in cards if card.id == wanted), ModelCard(id=wanted))
    names = {card.id for card in cards}
    # `branchwise serve` lists M@strategy beside M.
    cards = [card for card in cards if "@" not in card.id or card.id.partition("@")[0] not in names]
    if len(cards) != 1:
        listed = ", ".join(card.id for card in cards[:10]) or "none"
        raise ConfigError("model", f"is not given, and the server has {listed}", "name one of its models")
    return cards[0]


def context_length(transport: Transport, *reported: int | None) -> int:
    """Return the context length from the settings, or as the server reports it. Raises ConfigError without either."""
    found = next((context for context in (transport.settings.context, *reported) if context), None)
    if found is None:
        raise ConfigError("context", "the server does not report it", "set it to the most tokens the model takes")
    return found


async def probe_tokens(transport: Transport, card: ModelCard) -> ServerFeatures | None:
    """Return the features of a server that takes and returns token ids, or None. Raises ServerError."""
    tokenized = await _tokenize_numbers(transport, card)
    if tokenized is None:
        return None
    context = context_length(transport, card.context, tokenized.max_model_len)
    length = max(size for size in (16, 32, 64, 128, _PROMPT_TOKENS) if size == 16 or size + _SAMPLE_TOKENS < context)
    root = Path(None, 1, tuple(tokenized.tokens[:length]), "")
    most = ServerFeatures(card.id, context, tokens=True, logprobs=True, usage=True, seeds=True)
    for features in _variants(most):
        sample = await probe_sample(transport, CompletionsEndpoint(features, transport.settings.extra_body), root)
        if sample is None:
            continue
        by_tokens = sample.usage is not None and sample.usage.prompt_tokens == length
        if not by_tokens or not all(chunk.token_ids for chunk in sample.chunks if chunk.text):
            return None
        features = replace(features, logprobs=any(chunk.logprobs for chunk in sample.chunks))
        return await _probe_details(transport, features, root, sample)
    return None


async def probe_sample(
    transport: Transport, endpoint: Endpoint, root: Path, sampling: Sampling | None = None
) -> ProbeSample | None:
    """Return one greedy sample, or None if the server refuses the request or streams invalid events."""
    request = ExtendRequest(root, (1,), sampling or Sampling(temperature=0, max_tokens=_SAMPLE_TOKENS))
    body, failed = endpoint.body(request, 1), None

    async def attempt() -> list[BranchChunk]:
        nonlocal failed
        failed = transport.replicas.choose(b"", failed)
        reader = endpoint.reader(request)
        async with transport.stream(failed, endpoint.path, body) as events:
            return [reader.read(data) async for data in events if data.strip() != b"[DONE]"]

    def has_alternative() -> bool:
        return failed is not None and transport.replicas.has_alternative(failed)

    # Some servers answer unknown fields with 500, so that a repetition does not help.
    policy = retry_policy(
        transport.settings, may_retry=lambda: True, has_alternative=has_alternative, final_statuses=(500,)
    )
    try:
        chunks: list[BranchChunk] = await policy(attempt)
    except (StreamedError, InvalidStreamError, ValueError):
        return None
    except ServerError as error:
        missing = error.status == 404 and not endpoint.features.tokens
        if error.status in (401, 403) or missing or (error.retryable and error.status != 500):
            raise
        return None
    usage = next((chunk.usage for chunk in reversed(chunks) if chunk.usage is not None), None)
    return ProbeSample(chunks, "".join(chunk.text for chunk in chunks), usage)


async def probe_stop(transport: Transport, endpoint: Endpoint, root: Path, first: ProbeSample) -> tuple[bool, int]:
    """Return whether the server leaves a stop string in the text, and how much of the repeated prompt was cached."""
    stop = first.text.rstrip()[-1:] or "\n"
    sampling = Sampling(temperature=0, max_tokens=_SAMPLE_TOKENS, stop=(stop,))
    with_stop = type(endpoint)(replace(endpoint.features, includes_stop=True), transport.settings.extra_body)
    sample = await probe_sample(transport, with_stop, root, sampling)
    if sample is None:
        again = await probe_sample(transport, endpoint, root)
        return False, 0 if again is None else again.cached
    ended = any(chunk.finish == "stop" for chunk in sample.chunks)
    return ended and sample.text.endswith(stop), sample.cached


async def _tokenize_numbers(transport: Transport, card: ModelCard) -> Tokenized | None:
    """Return the tokens of a text of many numbers, or None if the server does not tokenize and detokenize."""
    tokenizer = RemoteTokenizer(transport, card.id)
    numbers = ", ".join(map(str, range(_PROMPT_TOKENS)))
    try:
        body: Json = {"model": card.id, "prompt": numbers, "add_special_tokens": False}
        tokenized = await transport.request("/tokenize", body, Tokenized)
        if len(tokenized.tokens) < _PROMPT_TOKENS or not await tokenizer.decode(tokenized.tokens[:2]):
            return None
    except ServerError as error:
        if error.retryable or error.status in (401, 403):
            raise
        return None
    return tokenized


async def _probe_details(
    transport: Transport, features: ServerFeatures, root: Path, first: ProbeSample
) -> ServerFeatures:
    """Return the features with stop strings, reuse, alternatives and scores probed."""
    extra = transport.settings.extra_body
    includes_stop, cached = await probe_stop(transport, CompletionsEndpoint(features, extra), root, first)
    features = replace(features, includes_stop=includes_stop, reuse=block_size(len(root.token_ids), cached))
    if features.logprobs:
        most = await _most_alternatives(transport, CompletionsEndpoint(features, extra), root)
        features = replace(features, alternatives=most)
    ids = root.token_ids[:8]
    try:
        scored = await score_tokens(transport, features.model, ids[:4], ids[4:], b"")
    except ServerError as error:
        if error.retryable:
            raise
        scored = None
    return replace(features, score=scored is not None)


async def _most_alternatives(transport: Transport, endpoint: Endpoint, root: Path) -> int:
    """Return the most alternatives that the server reports for each token."""
    for wanted in _ALTERNATIVES:
        sampling = Sampling(temperature=0, max_tokens=1, logprobs=wanted)
        sample = await probe_sample(transport, endpoint, root, sampling)
        if sample is not None:
            rows = [row for chunk in sample.chunks for row in chunk.top or ()]
            return min(wanted, max(map(len, rows), default=0))
    return 0


def block_size(prompt: int, cached: int) -> int:
    """Return the block size of a prefix cache from the cached part of a repeated prompt; 0 if nothing was cached.

    Most servers recompute the last token and cache whole blocks only. The cached part of a prompt whose length is a
    power of two determines the power of two that is the block size. Other prompts fit several; the largest is the
    safe one.
    """
    if cached >= prompt > 0:
        return 1
    sizes = [1 << power for power in range(prompt.bit_length())] if 0 < cached < prompt else []
    fitting = [size for size in sizes if (prompt - 1) // size * size == cached]
    return max(fitting, default=1 if sizes else 0)


def _variants(most: ServerFeatures) -> Iterator[ServerFeatures]:
    """Yield the features to request, from most to least: servers may refuse fields that they do not know."""
    yield most
    for name in ("seeds", "logprobs"):
        yield replace(most, seeds=name != "seeds", logprobs=name != "logprobs")
    yield replace(most, seeds=False, logprobs=False)
