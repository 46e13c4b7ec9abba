"""Scripted backends whose paths state given answers, and runs of voting strategies on them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import branchwise as bw
from branchwise.backends.base import ExtendRequest
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.backends.scripted.reply import PlannedBranch
from branchwise.backends.stream import Tokens
from branchwise.core.path import TopLogprob
from branchwise.strategies import AnyStrategy

FULL = bw.Capabilities(model="scripted", context=100_000)
TEXT_ONLY = replace(FULL, token_in=False, token_out=False, continues=False, logprobs=False, top_k_logprobs=0)
NO_LOGPROBS = replace(FULL, logprobs=False, top_k_logprobs=0)
BROKEN = Reply("Oh no", fail_after=1)
ANSWER = "The answer is {}."
"""Five tokens."""


@dataclass(frozen=True, slots=True)
class ReplyWithLogprobs(Reply):
    """A reply with a log-probability for each token; the last one repeats to the end."""

    logprobs: tuple[float, ...] = (-0.1,)


class LogprobBackend(ScriptedBackend):
    """The scripted backend for `ReplyWithLogprobs`. The only alternative of a token is the token itself."""

    def _tokens(
        self, copy: int, request: ExtendRequest, branch: PlannedBranch, before: int, chunk: Sequence[int], text: str
    ) -> Tokens:
        event = super()._tokens(copy, request, branch, before, chunk, text)
        if not isinstance(branch.reply, ReplyWithLogprobs) or event.logprobs is None:
            return event
        given = branch.reply.logprobs
        row = tuple(given[min(before + place, len(given) - 1)] for place in range(len(chunk)))
        top = tuple((TopLogprob(token, value),) for token, value in zip(chunk, row, strict=True))
        return replace(event, logprobs=row, top_logprobs=top if event.top_logprobs is not None else None)


def three_steps(reply: str | Reply, number: int) -> str | Reply:
    """Return the text of branch `number`: three steps that end with the answer `reply`, or without one for "-"."""
    if isinstance(reply, Reply):
        return reply
    last = "Who knows." if reply == "-" else ANSWER.format(reply)
    return f"M{number} it is. N{number} follows. {last}"


def confident(answer: str, *confidences: float, words: int = 0) -> ReplyWithLogprobs:
    """Return a reply of `words` words and an answer of five tokens; the last of the token confidences repeats."""
    text = ANSWER.format(answer) if answer != "-" else "Who knows, who knows."
    return ReplyWithLogprobs("word " * words + text, logprobs=tuple(-value for value in confidences))


def backend_for(replies: Sequence[str | Reply], capabilities: bw.Capabilities = FULL) -> LogprobBackend:
    """Return a backend whose n-th branch states the n-th reply, whatever it continues; the list repeats."""
    return backend_by_question({"q": replies}, capabilities)


def backend_by_question(
    scripts: Mapping[str, Sequence[str | Reply]], capabilities: bw.Capabilities = FULL
) -> LogprobBackend:
    """Return a backend with a list of replies for each question."""
    numbers: Counter[str] = Counter()

    def reply(path: bw.Path, before: int) -> str | Reply:
        assert path.root.messages is not None
        question = path.root.messages.turns[-1].content
        number, replies = numbers[question], scripts[question]
        numbers[question] += 1
        text = three_steps(replies[number % len(replies)], number)
        return f" {text}" if path.generated and isinstance(text, str) else text

    return LogprobBackend(reply, capabilities=capabilities)


def run(
    strategy: AnyStrategy,
    replies: Sequence[str | Reply],
    capabilities: bw.Capabilities = FULL,
    budget: bw.Budget | None = None,
) -> bw.Result:
    """Solve one question on `backend_for(replies)`."""
    backend, limits = backend_for(replies, capabilities), budget or bw.Budget()
    return bw.solve_sync("q", backend, strategy=strategy, budget=limits, allow_fallback=True)


def answers_of(result: bw.Result) -> str:
    """Return the answers of the paths in the order of the requests; "-" for a path without one."""
    return "".join("-" if branch.answer is None else branch.answer.value for branch in result.paths)


def keys(result: bw.Result) -> list[int]:
    """Return the keys of the paths."""
    return [branch.path.key for branch in result.paths]


def delayed(fast: str, answers: str) -> list[Reply]:
    """Return replies that state these answers; those in `fast` finish before all others."""
    return [Reply(ANSWER.format(answer), delay=0.0 if answer in fast else 0.004) for answer in answers]
