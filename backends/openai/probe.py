"""What a server can do, seen from a few tiny requests."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from branchwise.backends.base import ExtendRequest
from branchwise.backends.openai.dialect import Dialect, Json, TokenDialect, TroubleError, WrongAnswerError
from branchwise.backends.openai.failures import ServerError
from branchwise.backends.openai.features import Features
from branchwise.backends.openai.retrying import retrying
from branchwise.backends.openai.scoring import score_one
from branchwise.backends.openai.tokenizer import RemoteTokenizer
from branchwise.backends.openai.transport import Transport
from branchwise.backends.openai.wire import ModelCard, ModelCards, Piece, Tokenized, ToldUsage
from branchwise.core.errors import ConfigError
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling

_LONG = 256  # tokens of the prompt that shows what is reused
_ALTERNATIVES = (64, 20, 5, 1)
_SAID = 8  # tokens of each sample


class Heard(NamedTuple):
    """What one request gave."""

    pieces: list[Piece]
    text: str
    usage: ToldUsage | None

    @property
    def cached(self) -> int:
        return (self.usage.cached if self.usage is not None else None) or 0


async def find_model(transport: Transport) -> ModelCard:
    """The model to use. Raises ConfigError where that is not clear."""
    wanted = transport.settings.model
    try:
        cards = (await transport.ask("/v1/models", None, ModelCards)).data
    except ServerError as error:
        if wanted is None or error.retryable or error.status in (401, 403):
            raise
        cards = []  # a server may keep no list
    if wanted is not None:
        return next((card for card in cards if card.id == wanted), ModelCard(id=wanted))
    names = {card.id for card in cards}
    # `branchwise serve` lists M@strategy beside M.
    cards = [card for card in cards if "@" not in card.id or card.id.partition("@")[0] not in names]
    if len(cards) != 1:
        listed = ", ".join(card.id for card in cards[:10]) or "none"
        raise ConfigError("model", f"is not given, and the server has {listed}", "name one of its models")
    return cards[0]


def context_of(transport: Transport, *told: int | None) -> int:
    """The context: the settings', or what the server tells. Raises ConfigError without either."""
    found = next((context for context in (transport.settings.context, *told) if context), None)
    if found is None:
        raise ConfigError("context", "is not told by the server", "set it to the most tokens that the model takes")
    return found


async def probe_tokens(transport: Transport, card: ModelCard) -> Features | None:
    """What a server does that takes and shows tokens; None for one that does not. Raises ServerError."""
    tokenizer = RemoteTokenizer(transport, card.id)
    try:
        asked: Json = {"model": card.id, "prompt": ", ".join(map(str, range(_LONG))), "add_special_tokens": False}
        told = await transport.ask("/tokenize", asked, Tokenized)
        if len(told.tokens) < _LONG or not await tokenizer.decode(told.tokens[:2]):
            return None
    except ServerError as error:
        if error.retryable or error.status in (401, 403):
            raise
        return None
    context = context_of(transport, card.context, told.max_model_len)
    length = max(size for size in (16, 32, 64, 128, _LONG) if size == 16 or size + _SAID < context)
    root = Path(None, 1, tuple(told.tokens[:length]), "")
    for features in _variants(Features(card.id, context, tokens=True, logprobs=True, usage=True, seeds=True)):
        heard = await hear(transport, TokenDialect(features, transport.settings.extra_body), root)
        if heard is None:
            continue
        by_tokens = heard.usage is not None and heard.usage.prompt_tokens == length
        if not by_tokens or not all(piece.token_ids for piece in heard.pieces if piece.text):
            return None
        return await _closer(transport, _seen(features, heard), root, heard)
    return None


async def hear(transport: Transport, dialect: Dialect, root: Path, sampling: Sampling | None = None) -> Heard | None:
    """One greedy sample; None where the server refuses the request or answers what can't be read."""
    request = ExtendRequest(root, (1,), sampling or Sampling(temperature=0, max_tokens=_SAID))
    body, failed = dialect.body(request, 1), None

    async def attempt() -> list[Piece]:
        nonlocal failed
        failed = transport.replicas.choose(b"", failed)
        reader = dialect.reader(request)
        async with transport.stream(failed, dialect.path, body) as events:
            return [reader.read(data) async for data in events if data.strip() != b"[DONE]"]

    def elsewhere() -> bool:
        return failed is not None and transport.replicas.elsewhere(failed)

    try:
        # A server may fail at what it does not know: 500 is no reason to ask again.
        pieces: list[Piece] = await retrying(transport.settings, lambda: True, elsewhere, final=(500,))(attempt)
    except (TroubleError, WrongAnswerError, ValueError):
        return None
    except ServerError as error:
        missing = error.status == 404 and not dialect.features.tokens
        if error.status in (401, 403) or missing or (error.retryable and error.status != 500):
            raise
        return None
    usage = next((piece.usage for piece in reversed(pieces) if piece.usage is not None), None)
    return Heard(pieces, "".join(piece.text for piece in pieces), usage)


async def shows_stops(transport: Transport, dialect: Dialect, root: Path, first: Heard) -> tuple[bool, int]:
    """Whether a stop string is left in the text, and how much of the same prompt was reused."""
    stop = first.text.rstrip()[-1:] or "\n"
    sampling = Sampling(temperature=0, max_tokens=_SAID, stop=(stop,))
    asking = type(dialect)(replace(dialect.features, stops_shown=True), transport.settings.extra_body)
    heard = await hear(transport, asking, root, sampling)
    if heard is None:
        again = await hear(transport, dialect, root)
        return False, 0 if again is None else again.cached
    ended = any(piece.finish == "stop" for piece in heard.pieces)
    return ended and heard.text.endswith(stop), heard.cached


async def _closer(transport: Transport, features: Features, root: Path, first: Heard) -> Features:
    """The rest of what a server that talks in tokens does."""
    extra = transport.settings.extra_body
    shown, cached = await shows_stops(transport, TokenDialect(features, extra), root, first)
    features = replace(features, stops_shown=shown, reuse=block_size(len(root.token_ids), cached))
    if features.logprobs:
        features = replace(features, alternatives=await _alternatives(transport, TokenDialect(features, extra), root))
    ids = root.token_ids[:8]
    try:
        scored = await score_one(transport, features.model, ids[:4], ids[4:], b"")
    except ServerError as error:
        if error.retryable:
            raise
        scored = None
    return replace(features, score=scored is not None)


async def _alternatives(transport: Transport, dialect: Dialect, root: Path) -> int:
    """Most alternatives that come with each token."""
    for wanted in _ALTERNATIVES:
        sampling = Sampling(temperature=0, max_tokens=1, logprobs=wanted)
        heard = await hear(transport, dialect, root, sampling)
        if heard is not None:
            rows = [row for piece in heard.pieces for row in piece.top or ()]
            return min(wanted, max(map(len, rows), default=0))
    return 0


def block_size(prompt: int, cached: int) -> int:
    """The tokens in a block of what is reused, from how much of a prompt that was just read was reused; 0: nothing was.

    Most servers read the last token again, and keep whole blocks alone. A prompt of a power of two shows which power of
    two they are; other prompts fit several, and the largest promises least.
    """
    if cached >= prompt > 0:
        return 1
    sizes = [1 << power for power in range(prompt.bit_length())] if 0 < cached < prompt else []
    fitting = [size for size in sizes if (prompt - 1) // size * size == cached]
    return max(fitting, default=1 if sizes else 0)


def _variants(most: Features) -> Iterator[Features]:
    """What to ask for, from the most to the least: a server may refuse what it does not know."""
    yield most
    for name in ("seeds", "logprobs"):
        yield replace(most, seeds=name != "seeds", logprobs=name != "logprobs")
    yield replace(most, seeds=False, logprobs=False)


def _seen(asked: Features, heard: Heard) -> Features:
    return replace(asked, logprobs=any(piece.logprobs for piece in heard.pieces))
