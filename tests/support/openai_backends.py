"""Helpers for tests of the OpenAI backend over fake servers."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from branchwise.backends.base import ExtendRequest
from branchwise.backends.openai.backend import OpenAIBackend
from branchwise.backends.openai.settings import OpenAISettings
from branchwise.backends.stream import Broken
from branchwise.core.errors import BackendError
from branchwise.core.path import Path
from branchwise.core.question import Question, as_messages
from branchwise.core.sampling import Sampling
from tests.support.contract import StreamedBranch, collect
from tests.support.fake_responses import FakeReply
from tests.support.fake_server import FakeFeatures, FakeServer

ANSWER = "First, 6 times 7 is 42. So the answer is \\boxed{42}. Done."
TEXT = FakeFeatures(tokens=False)
# A service that has chat completions only, and refuses the fields of other servers.
STRICT = FakeFeatures(
    tokens=False,
    includes_stop=False,
    continuation="never",
    block=1 << 20,
    context=None,
    refused=("include_stop_str_in_output", "continue_final_message", "continuous_usage_stats", "top_k"),
)
# api.openai.com with its newest models.
OPENAI = replace(
    STRICT,
    temperatures=(1.0,),
    refused=(*STRICT.refused, "max_tokens", "logprobs", "min_p", "stop", "chat_template_kwargs"),
)


def serve(reply: str | FakeReply = ANSWER, features: FakeFeatures | None = None) -> FakeServer:
    """Return a server that gives the same reply to every request."""
    return FakeServer(lambda prompt, before: reply, features or FakeFeatures())


def settings(*servers: FakeServer, **changes: object) -> OpenAISettings:
    """Return settings with short timeouts."""
    quick = OpenAISettings(tuple(server.url for server in servers), idle_timeout=10.0, retry_seconds=5.0)
    return replace(quick, **changes)  # type: ignore[arg-type]


async def generate(
    backend: OpenAIBackend, path: Path, sampling: Sampling | None = None, keys: Sequence[int] = (11,)
) -> list[StreamedBranch]:
    """Return the branches of one request."""
    request = ExtendRequest(path, tuple(keys), sampling or Sampling(temperature=1.0, max_tokens=100))
    return await collect(backend.extend(request), len(keys))


async def make_root(backend: OpenAIBackend, question: Question = "What is 6 times 7?") -> Path:
    """Return the path of a prompt."""
    return await backend.root(as_messages(question), key=1)


async def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until a server in another thread reaches a state, ten seconds at most."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (in a thread of its own)
            await asyncio.sleep(0.01)


def failure(branch: StreamedBranch) -> BackendError:
    """Return the error of a broken branch."""
    (end,) = branch.ended
    assert isinstance(end, Broken)
    assert isinstance(end.error, BackendError)
    return end.error
