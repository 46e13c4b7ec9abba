"""Log-likelihoods of given texts for harnesses: in nats, and whether greedy decoding would generate them."""

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

_SPARE = 8  # one token in 8 of a window stays free: a cut text may need more tokens


class Likelihood(NamedTuple):
    """Log-likelihood of one continuation."""

    logprob: float  # nats, all its tokens together
    greedy: bool  # whether greedy decoding generates exactly its tokens


class Likelihoods(NamedTuple):
    """Log-likelihoods of all continuations of a prompt, and their cost."""

    each: tuple[Likelihood, ...]
    cost: Usage


class Rolling(NamedTuple):
    """Log-likelihood of one text without a prompt, and its cost."""

    logprob: float  # nats, all its tokens together
    cost: Usage


async def likelihoods(backend: Backend, prompt: Messages, continuations: Sequence[str]) -> Likelihoods:
    """Return the log-likelihoods of texts as the beginning of the assistant's answer to `prompt`.

    Raises ConfigError if the backend cannot score or the texts exceed its context, and BackendError.
    """
    _check(backend)
    texts = [text for text in continuations if text]
    if not texts:
        return Likelihoods(tuple(Likelihood(0.0, True) for _ in continuations), Usage())
    root = await retry("root", lambda: backend.root(prompt, 0))
    scores = await retry("score", lambda: backend.score(root, texts))
    targets = [(await backend.force(root, text)).token_ids for text in texts]
    generated, cost = await _greedy(backend, root, targets)
    found = {
        text: Likelihood(sum(row), generated[: len(tokens)] == tokens)
        for text, row, tokens in zip(texts, scores.logprobs, targets, strict=True)
    }
    return Likelihoods(tuple(found.get(text, Likelihood(0.0, True)) for text in continuations), scores.cost + cost)


async def rolling(backend: Backend, text: str) -> Rolling:
    """Return the log-likelihood of a text as the assistant's answer to an empty user turn.

    A text longer than the model's context is scored in disjoint windows, each after the same empty turn. Raises
    ConfigError if the backend cannot score, and BackendError.
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
    capabilities = backend.capabilities
    can_score = capabilities.score and capabilities.token_out
    require(can_score, "model", "cannot score given texts", "use tasks that generate, or a backend that scores")


def _windows(path: Path, room: int) -> list[str]:
    """Split the text of a path's last segment into pieces of at most `room` tokens."""
    ends, text = path.ends, path.text
    if len(ends) <= room:
        return [text]
    step = max(1, room - room // _SPARE)
    cuts = [0, *(ends[at - 1] for at in range(step, len(ends), step)), len(text)]
    return [piece for start, end in pairwise(cuts) if (piece := text[start:end])]


async def _greedy(backend: Backend, root: Path, targets: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], Usage]:
    """Decode greedily after `root` while the tokens are a prefix of one of `targets`; return them and the cost.

    Raises BackendError.
    """
    generated: tuple[int, ...] = ()
    sampling = Sampling(temperature=0.0, max_tokens=max(map(len, targets)))
    extension = backend.extend(ExtendRequest(root, (0,), sampling))
    cost = Usage()
    async for event in extension:
        if isinstance(event, Tokens):
            generated += event.token_ids
            if not any(len(tokens) > len(generated) and tokens[: len(generated)] == generated for tokens in targets):
                extension.cancel(0)
            continue
        cost = event.cost
        if isinstance(event, Broken):
            raise event.error
    return generated, cost
