"""A scripted model that writes given replies, and judges them as a function says."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import branchwise as bw
from branchwise.backends.scripted.backend import Reply, ScriptedBackend

CHAT_ONLY = bw.Capabilities(
    model="scripted", context=100_000, score=False, token_in=False, token_out=False, logprobs=False, top_k_logprobs=0
)
"""A server of plain chat: no tokens, no log-probabilities, no scores of given texts."""


def is_judge_prompt(path: bw.Path) -> bool:
    return "[Question]" in prompt_of(path) or "[User]" in prompt_of(path)


def prompt_of(path: bw.Path) -> str:
    assert path.root.messages is not None
    return path.root.messages.turns[-1].content


def judged_backend(
    replies: Sequence[str | Reply], judge: Callable[[str], str | Reply], *, context: int = 100_000
) -> ScriptedBackend:
    """Return a backend whose n-th path is the n-th reply, and whose judge's reply is `judge(prompt)`."""

    def script(path: bw.Path, number: int) -> str | Reply:
        return judge(prompt_of(path)) if is_judge_prompt(path) else replies[number % len(replies)]

    return ScriptedBackend(script, capabilities=replace(CHAT_ONLY, context=context))


def sections(prompt: str) -> dict[str, str]:
    """Return the texts of a judge's prompt by their headings, such as "Response A"; each on one line."""
    lines = prompt.splitlines()
    return {line[1:-1]: lines[number + 1] for number, line in enumerate(lines) if line.startswith("[")}
