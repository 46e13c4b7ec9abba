"""An event loop in a thread of its own: vLLM's engine belongs to one loop, its callers to any thread."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import TypeVar

Returned = TypeVar("Returned")


class LoopThread:
    """A running event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="branchwise-vllm", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[None, None, Returned]) -> Returned:
        """Run `work` in the loop and return its result. Must not be called in the loop's own thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def close(self) -> None:
        """Stop the loop, from any other thread. Safe to call twice."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            self.loop.run_until_complete(self._cancel_tasks())
        finally:
            self.loop.close()

    async def _cancel_tasks(self) -> None:
        """Cancel the remaining tasks and wait for them."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.loop.shutdown_asyncgens()
