"""An event loop in a thread of its own: vLLM's engine belongs to one, and callers come from any."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import TypeVar

Returned = TypeVar("Returned")


class LoopThread:
    """Runs an event loop until it is closed."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="branchwise-vllm", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[None, None, Returned]) -> Returned:
        """Run `work` there, wait for it and return what it returns. Not for the loop's own thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def close(self) -> None:
        """End the loop. Safe to call twice, and from any other thread."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            self.loop.run_until_complete(self._end())
        finally:
            self.loop.close()

    async def _end(self) -> None:
        """Let what still runs come to its end."""
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await self.loop.shutdown_asyncgens()
