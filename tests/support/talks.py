"""A scripted model for agents: what it says depends on how often a tool was heard."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import branchwise as bw
from branchwise.backends.base import ExtendRequest
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.backends.stream import Extension

CALL = '<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def call(name: str, arguments: str) -> str:
    """A call as Qwen writes it."""
    return CALL.format(name=name, arguments=arguments)


class Talk(ScriptedBackend):
    """`rounds[k]` are the replies of its branches, in turn, once the chat holds k results of tools; the last is for all
    longer ones."""

    def __init__(self, *rounds: Sequence[str | Reply]) -> None:
        super().__init__(self._say)
        self._rounds = rounds
        self.asked: list[ExtendRequest] = []

    def extend(self, request: ExtendRequest) -> Extension:
        self.asked.append(request)
        return super().extend(request)

    @property
    def prompts(self) -> list[bw.Messages]:
        """What each request for branches was asked, a prompt once for each."""
        return [request.path.root.messages or bw.Messages(turns=()) for request in self.asked]

    async def speaking(self, branches: int) -> None:
        """Wait until so many branches are under way."""
        for _ in range(500):
            if len(self.running) >= branches:
                return
            await asyncio.sleep(0.01)
        raise TimeoutError(f"{len(self.running)} branches are under way")

    async def idle(self) -> bool:
        """Whether all branches end within a moment."""
        for _ in range(200):
            if not self.running:
                return True
            await asyncio.sleep(0.01)
        return False

    def _say(self, path: bw.Path, before: int) -> str | Reply:
        messages = path.root.messages
        assert messages is not None
        heard = sum(turn.role == "tool" for turn in messages.turns)
        replies = self._rounds[min(heard, len(self._rounds) - 1)]
        return replies[before % len(replies)]


@contextmanager
def a_loop_of_its_own() -> Iterator[None]:
    """For code that takes the thread's event loop and leaves it open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield
    finally:
        asyncio.set_event_loop(None)
        loop.close()
