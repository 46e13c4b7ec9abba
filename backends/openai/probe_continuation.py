"""Probe how a server of chat completions continues text.

A turn that ends inside a word shows it best: a server that continues the turn completes the word, and one that begins a
new turn does not. The word comes from the server's own reply, so that this holds for any model. Where the text decides
nothing, the number of prompt tokens does: a turn that is continued is not closed.
"""

import re
from dataclasses import replace
from enum import Enum
from typing import NamedTuple

from branchwise.backends.openai.chat import ChatEndpoint
from branchwise.backends.openai.sampling_probe import Prober, ProbeSample
from branchwise.backends.openai.server_features import Continuation, ServerFeatures
from branchwise.backends.openai.transcript import TranscriptEndpoint
from branchwise.core.path import Path
from branchwise.core.question import as_messages
from branchwise.core.sampling import Sampling

_QUESTION = "Count from one to twenty in words, separated by commas. Write nothing else."
_BEGUN, _REST = "one, two, three, four, fi", "ve"
"""The beginning of a reply that is cut inside a word, and the rest of that word."""
_REPLY_TOKENS = 24
_REST_TOKENS = 8
_WORD = re.compile(r"(?<!\w)[^\W\d_]{4,}(?!\w)")
_LEAST_BEGUN = 16
"""Characters before the word that is cut."""


class _Begun(NamedTuple):
    """A turn of the assistant cut inside a word."""

    path: Path
    rest: str
    """The rest of the word."""


class _Verdict(Enum):
    CONTINUES = "the response completes the word"
    OPEN = "the response is other text"
    REFUSED = "the server refuses the request, or begins the turn again"


class _Trial(NamedTuple):
    """One response to a turn that has begun."""

    verdict: _Verdict
    prompt_tokens: int | None


async def find_continuation(prober: Prober, features: ServerFeatures) -> Continuation | None:
    """Return the way in which the server continues text, or None. Raises ServerError."""
    root = Path(None, 1, (), "", messages=as_messages(_QUESTION))
    reply = await prober.try_sample(prober.endpoint(ChatEndpoint, features), root, Sampling(max_tokens=_REPLY_TOKENS))
    begun = _begin(root, "" if reply is None else reply.text)
    plain = await _try(prober, features, "plain", begun)
    if plain.verdict is _Verdict.CONTINUES:
        return "plain"
    fields = await _try(prober, features, "fields", begun)
    if fields.verdict is _Verdict.CONTINUES or _leaves_turn_open(fields, plain):
        return "fields"
    if (await _try(prober, features, "flag", begun)).verdict is _Verdict.CONTINUES:
        return "flag"
    if plain.verdict is _Verdict.OPEN and await _is_open_by_count(prober, features, root, reply, begun, plain):
        return "plain"
    return "transcript" if await _completes_text(prober, features, begun) else None


def _begin(root: Path, reply: str) -> _Begun:
    """Return the beginning of a reply up to the middle of a word, or of the expected reply if it has no such word."""
    words = [] if reply.lstrip().startswith("<think>") else list(_WORD.finditer(reply))
    found = next((word for word in words if word.start() >= _LEAST_BEGUN), None)
    begun, rest = _BEGUN, _REST
    if found is not None:
        begun, rest = reply[: found.start() + 2], reply[found.start() + 2 : found.end()]
    return _Begun(Path(root, 1, (), begun), rest)


async def _try(prober: Prober, features: ServerFeatures, continuation: Continuation, begun: _Begun) -> _Trial:
    endpoint = prober.endpoint(ChatEndpoint, replace(features, continuation=continuation))
    sample = await prober.try_sample(endpoint, begun.path, Sampling(max_tokens=_REST_TOKENS))
    if sample is None:
        return _Trial(_Verdict.REFUSED, None)
    completes = sample.text.lower().startswith(begun.rest.lower())
    return _Trial(_Verdict.CONTINUES if completes else _Verdict.OPEN, sample.prompt_tokens)


def _leaves_turn_open(fields: _Trial, plain: _Trial) -> bool:
    """Return True if the request to continue the turn has an effect: the prompt then has fewer tokens."""
    if fields.verdict is not _Verdict.OPEN or fields.prompt_tokens is None:
        return False
    return plain.prompt_tokens is not None and fields.prompt_tokens < plain.prompt_tokens


async def _is_open_by_count(
    prober: Prober, features: ServerFeatures, root: Path, reply: ProbeSample | None, begun: _Begun, plain: _Trial
) -> bool:
    """Return True if a turn that has begun adds no more prompt tokens than its text has: then it is not closed.

    The text's own tokens are counted by having it twice.
    """
    if reply is None or reply.prompt_tokens is None or plain.prompt_tokens is None:
        return False
    twice = Path(root, 1, (), f"{begun.path.text} {begun.path.text}")
    longer = await _try(prober, features, "plain", _Begun(twice, begun.rest))
    if longer.prompt_tokens is None:
        return False
    return plain.prompt_tokens - reply.prompt_tokens <= longer.prompt_tokens - plain.prompt_tokens


async def _completes_text(prober: Prober, features: ServerFeatures, begun: _Begun) -> bool:
    """Return True if the server completes plain text."""
    endpoint = prober.endpoint(TranscriptEndpoint, replace(features, continuation="transcript"))
    sample = await prober.try_sample(endpoint, begun.path, Sampling(max_tokens=_REST_TOKENS))
    return sample is not None and bool(sample.text)
