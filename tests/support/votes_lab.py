"""What tests of voting strategies share: scripts that state given answers, and what came of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import branchwise as bw
from branchwise.backends.base import ExtendRequest
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.backends.scripted.reply import Speech
from branchwise.backends.stream import Tokens
from branchwise.core.path import TopLogprob
from branchwise.strategies.strategy import AnyStrategy

FULL = bw.Capabilities(model="scripted", context=100_000)
TEXT = replace(FULL, token_in=False, token_out=False, logprobs=False, top_k_logprobs=0)
NO_LOGPROBS = replace(FULL, logprobs=False, top_k_logprobs=0)
BROKEN = Reply("Oh no", fail_after=1)
SAYS = "The answer is {}."
"""Five tokens."""


@dataclass(frozen=True, slots=True)
class Uneven(Reply):
    """A reply whose tokens have log-probabilities of their own; the last of them goes on to the end."""

    logprobs: tuple[float, ...] = (-0.1,)


class Scripted(ScriptedBackend):
    """The scripted backend, for uneven replies too. Each token has one alternative: itself."""

    def _event(
        self, copy: int, request: ExtendRequest, speech: Speech, before: int, chunk: Sequence[int], text: str
    ) -> Tokens:
        event = super()._event(copy, request, speech, before, chunk, text)
        if not isinstance(speech.reply, Uneven) or event.logprobs is None:
            return event
        given = speech.reply.logprobs
        row = tuple(given[min(before + place, len(given) - 1)] for place in range(len(chunk)))
        top = tuple((TopLogprob(token, value),) for token, value in zip(chunk, row, strict=True))
        return replace(event, logprobs=row, top_logprobs=top if event.top_logprobs is not None else None)


def saying(reply: str | Reply, number: int) -> str | Reply:
    """What branch `number` says: a reply, or three steps that end with an answer ("-": with none)."""
    if isinstance(reply, Reply):
        return reply
    last = "Who knows." if reply == "-" else SAYS.format(reply)
    return f"M{number} it is. N{number} follows. {last}"


def sure(answer: str, *confidences: float, words: int = 0) -> Uneven:
    """So many words, then an answer's five tokens, of these confidences (the last one goes on)."""
    said = SAYS.format(answer) if answer != "-" else "Who knows, who knows."
    return Uneven("word " * words + said, logprobs=tuple(-value for value in confidences))


def stating(replies: Sequence[str | Reply], able: bw.Capabilities = FULL) -> Scripted:
    """Branch n, whatever it grows from, says the n-th of these, over and over."""
    return asked({"q": replies}, able)


def asked(scripts: Mapping[str, Sequence[str | Reply]], able: bw.Capabilities = FULL) -> Scripted:
    """The same for each question by itself."""
    numbers: Counter[str] = Counter()

    def reply(path: bw.Path, before: int) -> str | Reply:
        assert path.root.messages is not None
        question = path.root.messages.turns[-1].content
        number, replies = numbers[question], scripts[question]
        numbers[question] += 1
        said = saying(replies[number % len(replies)], number)
        return f" {said}" if path.generated and isinstance(said, str) else said

    return Scripted(reply, capabilities=able)


def run(
    strategy: AnyStrategy, replies: Sequence[str | Reply], able: bw.Capabilities = FULL, budget: bw.Budget | None = None
) -> bw.Result:
    return bw.solve_sync("q", stating(replies, able), strategy=strategy, budget=budget or bw.Budget())


def stated(result: bw.Result) -> str:
    """What the paths state, in issue order."""
    return "".join("-" if branch.answer is None else branch.answer.value for branch in result.paths)


def keys(result: bw.Result) -> list[int]:
    return [branch.path.key for branch in result.paths]


def late(fast: str, answers: str) -> list[Reply]:
    """Replies that state these answers; those that state `fast` are there before all others."""
    return [Reply(SAYS.format(answer), delay=0.0 if answer in fast else 0.004) for answer in answers]
