"""Scripted model for agents: its reply depends on the number of tool results."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import branchwise as bw
from branchwise.backends.base import ExtendRequest
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.backends.stream import Extension

CALL = '<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def call(name: str, arguments: str) -> str:
    """Return a tool call in the format of Qwen."""
    return CALL.format(name=name, arguments=arguments)


class Talk(ScriptedBackend):
    """Backend whose branches reply with `rounds[k]`, in turn, after k tool results. The last round is for all longer
    chats."""

    def __init__(self, *rounds: Sequence[str | Reply]) -> None:
        super().__init__(self._script_reply)
        self._rounds = rounds
        self.requests: list[ExtendRequest] = []

    def extend(self, request: ExtendRequest) -> Extension:
        self.requests.append(request)
        return super().extend(request)

    @property
    def prompts(self) -> list[bw.Messages]:
        """Prompts of the requests."""
        return [request.path.root.messages or bw.Messages(turns=()) for request in self.requests]

    async def speaking(self, branches: int) -> None:
        """Wait until this number of branches run."""
        for _ in range(500):
            if len(self.running) >= branches:
                return
            await asyncio.sleep(0.01)
        raise TimeoutError(f"{len(self.running)} branches run")

    async def idle(self) -> bool:
        """Return True if all branches end within two seconds."""
        for _ in range(200):
            if not self.running:
                return True
            await asyncio.sleep(0.01)
        return False

    def _script_reply(self, path: bw.Path, before: int) -> str | Reply:
        messages = path.root.messages
        assert messages is not None
        results = sum(turn.role == "tool" for turn in messages.turns)
        replies = self._rounds[min(results, len(self._rounds) - 1)]
        return replies[before % len(replies)]


@contextmanager
def a_loop_of_its_own() -> Iterator[None]:
    """Set an event loop for code that uses the thread's loop and leaves it open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield
    finally:
        asyncio.set_event_loop(None)
        loop.close()
