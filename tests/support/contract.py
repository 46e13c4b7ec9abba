"""The contract of every backend: constants and helpers of its tests.

tests/backends/test_contract.py and test_contract_usage.py test it here, tests/vllm on vLLM and on real servers. The
latter replace `decode`, `is_real_server` and TIMEOUT_SECONDS.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import httpx

from branchwise.backends.base import Backend, Capabilities, ExtendRequest
from branchwise.backends.engine.engine import Engine
from branchwise.backends.openai.backend import OpenAIBackend
from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.backends.stream import BranchEvent, Broken, Ended, Extension, Tokens
from branchwise.core.path import Path, StopReason
from branchwise.core.question import as_messages
from branchwise.core.sampling import Sampling

CONTEXT = 512
"""Context length of every backend but real servers."""
STORY = "".join(f"Step {i}, so {i} + {i} = {2 * i}. " for i in range(40)).strip()  # 10 tokens a step
SAMPLING = Sampling(temperature=1.0, max_tokens=40)
KEYS = (11, 12, 13)
TIMEOUT_SECONDS = 30
CAPABILITIES = {
    "scripted": Capabilities(model="scripted", context=CONTEXT),
    # The least that a server offers: text in, text out.
    "text": Capabilities(
        model="text",
        context=CONTEXT,
        token_in=False,
        token_out=False,
        prefix_reuse=0,
        per_branch_cancel=False,
        logprobs=False,
        top_k_logprobs=0,
        score=False,
        keyed=False,
    ),
    "blocks": Capabilities(model="blocks", context=CONTEXT, prefix_reuse=4, top_k_logprobs=0),
}
"""Capabilities of scripted backends."""


@dataclass
class StreamedBranch:
    """One branch of a request, collected from its events."""

    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    ends: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    ended: list[Ended | Broken] = field(default_factory=list)

    @property
    def stop_reason(self) -> StopReason:
        (end,) = self.ended
        assert isinstance(end, Ended)
        return end.stop_reason

    @property
    def whole_text(self) -> str:
        """Text of all its tokens, including the trimmed part."""
        (end,) = self.ended
        return self.text + (end.trimmed if isinstance(end, Ended) else "")

    def path(self, parent: Path, key: int) -> Path:
        """Return the branch as a continuation of `parent`."""
        return Path(
            parent=parent,
            key=key,
            token_ids=tuple(self.token_ids),
            text=self.whole_text,
            ends=tuple(self.ends),
            logprobs=tuple(self.logprobs),
            stop_reason=self.stop_reason,
        )


async def collect(
    extension: Extension, copies: int, react: Callable[[BranchEvent], None] = lambda _: None
) -> list[StreamedBranch]:
    """Read every branch of a request to its end; call `react` after each event."""
    branches = [StreamedBranch() for _ in range(copies)]
    async with asyncio.timeout(TIMEOUT_SECONDS):
        async for event in extension:
            branch = branches[event.copy]
            assert not branch.ended, "an event follows the branch's end"
            if isinstance(event, Tokens):
                branch.token_ids.extend(event.token_ids)
                branch.text += event.text
                branch.ends.extend(event.ends)
                branch.logprobs.extend(event.logprobs or ())
                assert not branch.ends or len(branch.text) <= branch.ends[-1], "text precedes its tokens"
            else:
                branch.ended.append(event)
            react(event)
    return branches


async def make_root(backend: Backend, question: str = "What is 6 times 7?") -> Path:
    """Return the path of a prompt."""
    return await backend.root(as_messages(question), key=1)


async def generate(
    backend: Backend, path: Path, keys: Sequence[int] = KEYS, sampling: Sampling = SAMPLING
) -> list[StreamedBranch]:
    """Return the branches of one request."""
    return await collect(backend.extend(ExtendRequest(path, tuple(keys), sampling)), len(keys))


def is_real_server(backend: Backend) -> bool:
    """Return True for a server that samples other tokens for equal keys, and whose cache may hold earlier prompts."""
    return False


def repeatable_sampling(backend: Backend, max_tokens: int = 40, stop: tuple[str, ...] = ()) -> Sampling:
    """Return sampling that gives one branch the same tokens each time."""
    return Sampling(temperature=0.0 if is_real_server(backend) else 1.0, max_tokens=max_tokens, stop=stop)


def recomputed(backend: Backend, tokens: int) -> int:
    """Return how many of `tokens` cached tokens are prefilled again, because they do not fill a block."""
    block = backend.capabilities.prefix_reuse
    return tokens % block if block else tokens


def recomputed_prompt(backend: Backend, tokens: int) -> int:
    """Return how many tokens of a cached prompt are prefilled again. Servers always recompute the last token."""
    if isinstance(backend, OpenAIBackend) and backend.capabilities.prefix_reuse:
        return 1 + recomputed(backend, tokens - 1)
    return recomputed(backend, tokens)


def decode(backend: Backend, token_ids: Sequence[int]) -> str:
    """Return the text of tokens, decoded all at once and without special tokens."""
    if isinstance(backend, Engine):
        text = backend._tokenizer.decode(list(token_ids), skip_special_tokens=True)
        assert isinstance(text, str)
        return text
    if isinstance(backend, OpenAIBackend):
        body = {"model": backend.features.model, "tokens": list(token_ids)}
        response = httpx.post(backend.settings.urls[0] + "/detokenize", json=body).json()
        return re.sub(r"<\|\w+\|>", "", response["prompt"])
    assert isinstance(backend, ScriptedBackend)
    return backend.vocabulary.decode(token_ids)
