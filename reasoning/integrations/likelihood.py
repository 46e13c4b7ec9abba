"""How probable given texts are, as harnesses ask: in nats, and whether greedy decoding would write them."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from branchwise.backends.base import Backend, ExtendRequest
from branchwise.backends.stream import Broken, Tokens
from branchwise.core.errors import require
from branchwise.core.messages import Message, Messages
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.core.usage import Usage
from branchwise.driver import retry

_SPARE = 8  # a window leaves one token in so many free: cut text may take more tokens than it did as a part


class Likelihood(NamedTuple):
    """Of one continuation."""

    logprob: float  # nats, all its tokens together
    greedy: bool  # whether greedy decoding writes exactly its tokens


class Likelihoods(NamedTuple):
    """Of all continuations of a prompt, and what they cost."""

    each: tuple[Likelihood, ...]
    cost: Usage


class Rolling(NamedTuple):
    """Of one text by itself, and what it cost."""

    logprob: float  # nats, all its tokens together
    cost: Usage


async def likelihoods(backend: Backend, prompt: Messages, continuations: Sequence[str]) -> Likelihoods:
    """How probable texts are as the beginning of the assistant's answer to `prompt`.

    Raises ConfigError where the backend can't tell or the texts don't fit its context, BackendError.
    """
    _check(backend)
    texts = [text for text in continuations if text]
    if not texts:
        return Likelihoods(tuple(Likelihood(0.0, True) for _ in continuations), Usage())
    root = await retry("root", lambda: backend.root(prompt, 0))
    scores = await retry("score", lambda: backend.score(root, texts))
    wanted = [(await backend.force(root, text)).token_ids for text in texts]
    said, cost = await _greedy(backend, root, wanted)
    found = {
        text: Likelihood(sum(row), said[: len(tokens)] == tokens)
        for text, row, tokens in zip(texts, scores.logprobs, wanted, strict=True)
    }
    return Likelihoods(tuple(found.get(text, Likelihood(0.0, True)) for text in continuations), scores.cost + cost)


async def rolling(backend: Backend, text: str) -> Rolling:
    """How probable a text is as the assistant's answer to an empty user turn.

    One that is longer than the model's context is scored in windows that share nothing, each after the same empty
    turn. Raises ConfigError where the backend can't tell, BackendError.
    """
    _check(backend)
    if not text:
        return Rolling(0.0, Usage())
    root = await retry("root", lambda: backend.root(Messages(turns=(Message(role="user"),)), 0))
    logprob, cost = 0.0, Usage()
    for window in _windows(await backend.force(root, text), backend.capabilities.context - len(root.token_ids)):
        scores = await retry("score", partial(backend.score, root, (window,)))
        logprob += sum(scores.logprobs[0])
        cost += scores.cost
    return Rolling(logprob, cost)


def _check(backend: Backend) -> None:
    able = backend.capabilities
    require(
        able.score and able.token_out,
        "model", "can't score given texts", "use tasks that generate, or a backend that scores",
    )  # fmt: skip


def _windows(spelled: Path, room: int) -> list[str]:
    """The text of a path's last segment, in pieces that fit into `room` tokens."""
    ends, text = spelled.ends, spelled.text
    if len(ends) <= room:
        return [text]
    step = max(1, room - room // _SPARE)
    cuts = [0, *(ends[at - 1] for at in range(step, len(ends), step)), len(text)]
    return [piece for start, end in pairwise(cuts) if (piece := text[start:end])]


async def _greedy(backend: Backend, root: Path, wanted: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], Usage]:
    """What greedy decoding says after `root`, as long as that is the beginning of one of `wanted`, and its cost.

    Raises BackendError.
    """
    said: tuple[int, ...] = ()
    sampling = Sampling(temperature=0.0, max_tokens=max(map(len, wanted)))
    extension = backend.extend(ExtendRequest(root, (0,), sampling))
    cost = Usage()
    async for event in extension:
        if isinstance(event, Tokens):
            said += event.token_ids
            if not any(len(tokens) > len(said) and tokens[: len(said)] == said for tokens in wanted):
                extension.cancel(0)
            continue
        cost = event.cost
        if isinstance(event, Broken):
            raise event.error
    return said, cost
