"""The branches under way: one task for each, in vLLM's event loop."""

import asyncio
import contextlib
import functools
import itertools
import os
from collections.abc import Callable, Sequence

from branchwise.backends.base import Scores, closed_error
from branchwise.backends.vllm.branch import LiveBranch
from branchwise.backends.vllm.capabilities import Facts
from branchwise.backends.vllm.client import Client, Output
from branchwise.backends.vllm.failures import failed
from branchwise.backends.vllm.requests import drawing, prompt, scoring
from branchwise.core.errors import BackendError
from branchwise.core.path import StopReason
from branchwise.core.usage import Usage

_CLEAR_TRIES, _CLEAR_PAUSE = 20, 0.05  # seconds: what was cancelled a moment ago still holds blocks


class Runs:
    """Asks vLLM and hears it, in vLLM's event loop; `start`, `cancel` and `clear` may be called from any thread."""

    def __init__(self, client: Client, loop: asyncio.AbstractEventLoop, facts: Facts, adapter: object | None) -> None:
        self.client = client
        self.loop = loop
        self.closing = False
        self._facts, self._adapter = facts, adapter
        self._tasks: dict[LiveBranch, asyncio.Task[None]] = {}
        self._clearing: asyncio.Task[None] | None = None
        self._numbers = itertools.count()
        self._name = f"branchwise-{os.urandom(4).hex()}"

    def start(self, branches: Sequence[LiveBranch]) -> None:
        """Raises BackendError when the backend is closed."""
        if self.closing:
            raise closed_error()
        self._soon(lambda: self._start(branches))

    def cancel(self, branch: LiveBranch) -> None:
        with contextlib.suppress(BackendError):
            self._soon(lambda: self._cancel(branch))

    def clear(self) -> None:
        """Drop the prefix cache; branches that start from now on wait for it."""
        with contextlib.suppress(BackendError):
            self._soon(self._clear)

    async def close(self) -> None:
        """Break every branch. In vLLM's loop."""
        self.closing = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _soon(self, call: Callable[[], None]) -> None:
        try:
            self.loop.call_soon_threadsafe(call)
        except RuntimeError as error:  # the loop is gone
            raise closed_error() from error

    def _start(self, branches: Sequence[LiveBranch]) -> None:
        for branch in branches:
            if self.closing:
                branch.fail(closed_error())
                continue
            self._tasks[branch] = task = self.loop.create_task(self._listen(branch))
            task.add_done_callback(functools.partial(self._done, branch))

    def _cancel(self, branch: LiveBranch) -> None:
        if (task := self._tasks.get(branch)) is not None:
            task.cancel()

    async def _listen(self, branch: LiveBranch) -> None:
        """Have a branch drawn, to its end."""
        params = drawing(branch.sampling, branch.key, len(branch.given), logprobs=self._facts.capabilities.logprobs)
        await self._cleared()
        outputs = self.client.generate(
            prompt(branch.given),
            params,
            self._next_name(),
            lora_request=self._adapter,
            priority=branch.priority if self._facts.prioritized else 0,
            data_parallel_rank=branch.rank,
        )
        async with contextlib.aclosing(outputs):  # closed early, it aborts the request
            async for output in outputs:
                branch.take(output)
                if branch.reason is StopReason.STOP or branch.abandoned:
                    return

    def _done(self, branch: LiveBranch, task: "asyncio.Task[None]") -> None:
        """Say how a branch ended. Called also when its task was cancelled before it ran at all."""
        self._tasks.pop(branch, None)
        error = None if task.cancelled() else task.exception()
        if branch.reason is not None:
            branch.end(branch.reason)
        elif error is not None:
            branch.fail(failed(error))
        elif self.closing:
            branch.fail(closed_error())
        else:
            branch.end(StopReason.CANCELLED)

    # Scores

    async def score(self, given: tuple[int, ...], continuations: Sequence[Sequence[int]], rank: int | None) -> Scores:
        """Log-probabilities of tokens after `given`. In vLLM's loop. Raises BackendError."""
        if self.closing:
            raise closed_error()
        await self._cleared()
        rows = await asyncio.gather(*(self._score(given, tokens, rank) for tokens in continuations))
        cost = sum((row.cost for row in rows), Usage())
        return Scores(tuple(logprobs for row in rows for logprobs in row.logprobs), cost)

    async def _score(self, given: tuple[int, ...], tokens: Sequence[int], rank: int | None) -> Scores:
        """One continuation, which is a request of its own."""
        if not tokens:
            return Scores(((),), Usage())
        cost = Usage()
        for anew in (False, True):
            try:
                output = await self._whole((*given, *tokens), anew, rank)
            except Exception as error:
                raise failed(error) from error
            cached = output.num_cached_tokens or 0
            reused = min(cached, len(given))
            cost += Usage(prompt=len(given), reused=reused, prefilled=len(given) - reused, forward_passes=1.0)
            # The cache may hold the continuation itself; what it holds has no log-probabilities.
            if cached < len(given):
                break
        entries = (output.prompt_logprobs or ())[-len(tokens) :]
        logprobs = tuple(entry[token].logprob for entry, token in zip(entries, tokens, strict=True) if entry)
        return Scores((logprobs,), cost + Usage(scored=len(tokens)))

    async def _whole(self, token_ids: Sequence[int], anew: bool, rank: int | None) -> Output:
        outputs = self.client.generate(
            prompt(token_ids),
            scoring(anew=anew),
            self._next_name(),
            lora_request=self._adapter,
            data_parallel_rank=rank,
        )
        async with contextlib.aclosing(outputs):
            (output,) = [output async for output in outputs]
        return output

    # The prefix cache

    def _clear(self) -> None:
        self._clearing = self.loop.create_task(self._drop())

    async def _drop(self) -> None:
        with contextlib.suppress(Exception):  # of a dead engine; the next request says so
            for _ in range(_CLEAR_TRIES):
                if await self.client.reset_prefix_cache():
                    return
                await asyncio.sleep(_CLEAR_PAUSE)

    async def _cleared(self) -> None:
        if (clearing := self._clearing) is not None and not clearing.done():
            await asyncio.wait({clearing})  # which is not cancelled with the branch that waits

    def _next_name(self) -> str:
        return f"{self._name}-{next(self._numbers)}"
