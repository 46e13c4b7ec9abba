"""What a server can do that takes and shows text alone."""

from collections.abc import Iterator
from dataclasses import replace

from branchwise.backends.openai.chat import ChatDialect
from branchwise.backends.openai.failures import ServerError
from branchwise.backends.openai.features import Features
from branchwise.backends.openai.probe import Heard, block_size, context_of, hear, shows_stops
from branchwise.backends.openai.transport import Transport
from branchwise.backends.openai.wire import ModelCard
from branchwise.core.messages import as_messages
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling

_SHORT = Sampling(temperature=0, max_tokens=1)


async def probe_chat(transport: Transport, card: ModelCard) -> Features:
    """Raises ServerError where it does not answer chats at all, ConfigError for a context that nobody tells."""
    context = context_of(transport, card.context)
    numbers = ", ".join(str(number) for number in range(1, min(100, context // 8)))
    root = _root(f"Go on counting: {numbers}")
    most = Features(card.id, context, tokens=False, logprobs=True, usage=True, running_usage=True, seeds=True)
    for features in _variants(most):
        heard = await hear(transport, ChatDialect(features, transport.settings.extra_body), root)
        if heard is not None:
            return await _closer(transport, _seen(features, heard), root, heard)
    raise ServerError(
        "the server refuses every chat, however little it asks for", retryable=False, hint="check model and base_urls"
    )


async def _closer(transport: Transport, features: Features, root: Path, first: Heard) -> Features:
    extra = transport.settings.extra_body
    shown, cached = await shows_stops(transport, ChatDialect(features, extra), root, first)
    reuse = 0 if first.usage is None else block_size(first.usage.prompt_tokens, cached)
    features = replace(features, stops_shown=shown, reuse=reuse)
    return replace(features, continues=await _continues(transport, features))


async def _continues(transport: Transport, features: Features) -> bool:
    """Whether asking to go on with the assistant's turn does anything: the turn then has no end, and fewer tokens.

    Some servers go on with a turn that comes last by themselves, some refuse to be asked.
    """
    begun = Path(_root("Count to nine."), 1, (), "One, two, three,")
    extra = transport.settings.extra_body
    asked = await hear(transport, ChatDialect(replace(features, continues=True), extra), begun, _SHORT)
    plain = await hear(transport, ChatDialect(replace(features, continues=False), extra), begun, _SHORT)
    if asked is None:
        return False
    if plain is None or asked.usage is None or plain.usage is None:
        return True
    return asked.usage.prompt_tokens < plain.usage.prompt_tokens


def _root(text: str) -> Path:
    return Path(None, 1, (), "", messages=as_messages(text))


def _variants(most: Features) -> Iterator[Features]:
    """What to ask for, from the most to the least: a server may refuse what it does not know."""
    for limit in ("max_tokens", "max_completion_tokens"):
        full = replace(most, limit=limit)
        yield full
        yield replace(full, running_usage=False)
        yield replace(full, running_usage=False, logprobs=False)
        yield replace(full, running_usage=False, logprobs=False, seeds=False)
        yield replace(full, running_usage=False, logprobs=False, seeds=False, usage=False)


def _seen(asked: Features, heard: Heard) -> Features:
    """What came of what was asked for."""
    told = [piece.usage is not None and piece.usage.prompt_tokens > 0 for piece in heard.pieces]
    spoken = [told for told, piece in zip(told, heard.pieces, strict=True) if piece.text]
    return replace(
        asked,
        logprobs=any(piece.logprobs for piece in heard.pieces),
        usage=any(told),
        running_usage=asked.running_usage and bool(spoken) and all(spoken),
    )
