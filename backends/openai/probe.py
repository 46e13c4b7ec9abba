"""Probe a server's features with a few small requests. probe_chat.py does so for servers without token ids."""

from dataclasses import replace
from typing import NamedTuple

from branchwise.backends.openai.completions import CompletionsEndpoint
from branchwise.backends.openai.endpoint import Endpoint, Json
from branchwise.backends.openai.negotiation import negotiate
from branchwise.backends.openai.responses import ModelCard, ModelCards, Tokenized
from branchwise.backends.openai.sampling_probe import Prober, ProbeSample, is_refusal
from branchwise.backends.openai.scoring import score_tokens
from branchwise.backends.openai.server_errors import ServerError
from branchwise.backends.openai.server_features import DEFAULT_CONTEXT, ServerFeatures
from branchwise.backends.openai.tokenizer import RemoteTokenizer
from branchwise.backends.openai.transport import Transport
from branchwise.core.errors import ConfigError
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling

_PROMPT_TOKENS = 256
"""Length of the prompt that shows the reuse of prefixes, if the context has room for it."""
_ALTERNATIVES = (64, 20, 5, 1)
_SAMPLE_TOKENS = 8


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
        others = [card.id for card in cards]
        return next((card for card in cards if card.id == wanted), ModelCard(id=wanted, others=others))
    names = {card.id for card in cards}
    # `branchwise serve` lists M@strategy beside M.
    cards = [card for card in cards if "@" not in card.id or card.id.partition("@")[0] not in names]
    if len(cards) != 1:
        listed = ", ".join(card.id for card in cards[:10]) or "none"
        raise ConfigError("model", f"is not given, and the server has {listed}", "name one of its models")
    return cards[0]


class Context(NamedTuple):
    """Context length of the model."""

    length: int
    """Tokens."""
    reported: bool
    """False if the length is assumed, because neither the settings nor the server state it."""


def find_context(transport: Transport, *reported: int | None) -> Context:
    """Return the context length from the settings, as the server reports it, or a length that is safe to assume."""
    found = next((context for context in (transport.settings.context, *reported) if context), None)
    return Context(found or DEFAULT_CONTEXT, reported=found is not None)


def all_features(card: ModelCard, context: Context, *, tokens: bool) -> ServerFeatures:
    """Return the features of a server that accepts every optional field, from which a negotiation starts."""
    return ServerFeatures(
        card.id,
        context.length,
        tokens=tokens,
        logprobs=True,
        usage=True,
        running_usage=not tokens,
        seeds=True,
        context_reported=context.reported,
    )


async def probe_tokens(transport: Transport, card: ModelCard) -> ServerFeatures | None:
    """Return the features of a server that takes and returns token ids, or None. Raises ServerError."""
    tokenized = await _tokenize_numbers(transport, card)
    if tokenized is None:
        return None
    context = find_context(transport, card.context, tokenized.max_model_len)
    sizes = (16, 32, 64, 128, _PROMPT_TOKENS)
    length = max(size for size in sizes if size == 16 or size + _SAMPLE_TOKENS < context.length)
    root = Path(None, 1, tuple(tokenized.tokens[:length]), "")
    most = all_features(card, context, tokens=True)
    prober = Prober(transport)
    try:
        features, sample = await negotiate(prober, CompletionsEndpoint, most, root)
    except ServerError as error:
        if is_refusal(error, optional=True):
            return None
        raise
    if sample.prompt_tokens != length or not all(chunk.token_ids for chunk in sample.chunks if chunk.text):
        return None
    features = replace(features, logprobs=any(chunk.logprobs for chunk in sample.chunks))
    return await _probe_details(prober, features, root, sample)


async def probe_stop(prober: Prober, endpoint: Endpoint, root: Path, first: ProbeSample) -> tuple[bool, int]:
    """Return whether the server leaves a stop string in the text, and how much of the repeated prompt was cached."""
    stop = first.text.rstrip()[-1:] or "\n"
    sampling = Sampling(max_tokens=_SAMPLE_TOKENS, stop=(stop,))
    with_stop = prober.endpoint(type(endpoint), replace(endpoint.features, includes_stop=True))
    sample = await prober.try_sample(with_stop, root, sampling)
    if sample is None:
        again = await prober.try_sample(endpoint, root)
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


async def _probe_details(prober: Prober, features: ServerFeatures, root: Path, first: ProbeSample) -> ServerFeatures:
    """Return the features with stop strings, reuse, alternatives and scores probed."""
    endpoint = prober.endpoint(CompletionsEndpoint, features)
    includes_stop, cached = await probe_stop(prober, endpoint, root, first)
    features = replace(features, includes_stop=includes_stop, reuse=block_size(len(root.token_ids), cached))
    if features.logprobs:
        most = await _most_alternatives(prober, prober.endpoint(CompletionsEndpoint, features), root)
        features = replace(features, alternatives=most)
    ids = root.token_ids[:8]
    try:
        scored = await score_tokens(prober.transport, features.model, ids[:4], ids[4:], b"")
    except ServerError as error:
        if error.retryable:
            raise
        scored = None
    return replace(features, score=scored is not None)


async def _most_alternatives(prober: Prober, endpoint: Endpoint, root: Path) -> int:
    """Return the most alternatives that the server reports for each token."""
    for wanted in _ALTERNATIVES:
        sample = await prober.try_sample(endpoint, root, Sampling(max_tokens=1, logprobs=wanted))
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
