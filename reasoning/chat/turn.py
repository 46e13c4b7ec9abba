"""The turn of a run: its place in a queue, and where its tokens are charged."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

Charge = Callable[[int], None]
"""Takes the number of tokens that a run sampled."""
Turn = Callable[[], AbstractAsyncContextManager[Charge]]
"""Returns the context of a run, such as its place in a queue. Entering it may wait, or raise BranchwiseError."""


@asynccontextmanager
async def free_turn() -> AsyncIterator[Charge]:
    """Let every run begin at once, and count nothing."""
    yield lambda _sampled: None
