"""Progress notifications of a call of the MCP tool."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from mcp.server.mcpserver import Context

from branchwise.core.summary import clipped
from branchwise.driver import BranchEnded, BranchGrew, RunEvent, Standing
from branchwise.strategies.strategy import Decision

_SECONDS = 0.25  # between two notifications
_MAX_ANSWER = 60  # characters of an answer in a notification


class RunProgress:
    """Sampled tokens of a run, as progress that always grows and never exceeds the total."""

    def __init__(self, total: int | None) -> None:
        """`total` is the budget in tokens; None: notifications have no total."""
        self.sampled = 0
        self._total = total
        self._ended = 0
        self._decision: Decision | None = None
        self._reported = 0

    def observe(self, event: RunEvent) -> None:
        """Count an event of the run."""
        match event:
            case BranchGrew():
                self.sampled += event.tokens
            case BranchEnded():
                self._ended += event.kept
            case Standing():
                self._decision = event.decision

    @asynccontextmanager
    async def notifications(self, context: Context) -> AsyncIterator[None]:
        """Send notifications while the body runs, and a last one after it."""
        done = asyncio.Event()

        async def notify() -> None:
            while not done.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(_SECONDS):
                        await done.wait()
                await self._report(context)

        notifier = asyncio.create_task(notify())
        try:
            yield
            done.set()
            await asyncio.wait({notifier})
        finally:
            notifier.cancel()
            await asyncio.gather(notifier, return_exceptions=True)  # a disconnected client must not fail the call

    async def _report(self, context: Context) -> None:
        progress = self.sampled if self._total is None else min(self.sampled, self._total)
        if progress > self._reported:
            self._reported = progress
            await context.report_progress(progress, self._total, self._message())

    def _message(self) -> str:
        text = f"paths ended: {self._ended}"
        if self._decision is None or self._decision.answer is None:
            return text
        answer = clipped(self._decision.answer.value, _MAX_ANSWER)
        confidence = self._decision.confidence
        return f"{text}; {answer} leads" + ("" if confidence is None else f", confidence {confidence:.2f}")
