"""Branch runner: sends branches and scores to vLLM's client as requests, one task each, in vLLM's event loop."""

import asyncio
import contextlib
import functools
import itertools
import os
from collections.abc import Callable, Sequence

from branchwise.backends.base import Scores, closed_error
from branchwise.backends.vllm.branch import VLLMBranch
from branchwise.backends.vllm.capabilities import EngineInfo
from branchwise.backends.vllm.client import Client, RequestOutput
from branchwise.backends.vllm.failures import request_error
from branchwise.backends.vllm.sampling_params import branch_params, scoring_params, tokens_prompt
from branchwise.core.errors import BackendError
from branchwise.core.path import StopReason
from branchwise.core.usage import Usage

_CLEAR_TRIES, _CLEAR_PAUSE = 20, 0.05  # seconds: requests cancelled a moment ago still use blocks


class BranchRunner:
    """Runs branches and scores. `start`, `cancel` and `clear` may be called from any thread, all else in the loop."""

    def __init__(
        self, client: Client, loop: asyncio.AbstractEventLoop, info: EngineInfo, adapter: object | None
    ) -> None:
        self.client = client
        self.loop = loop
        self.closing = False
        self._info = info
        self._adapter = adapter
        self._tasks: dict[VLLMBranch, asyncio.Task[None]] = {}
        self._clearing: asyncio.Task[None] | None = None
        self._numbers = itertools.count()
        self._name = f"branchwise-{os.urandom(4).hex()}"

    def start(self, branches: Sequence[VLLMBranch]) -> None:
        """Start branches. Raises BackendError if the backend is closed."""
        if self.closing:
            raise closed_error()
        self._call_soon(lambda: self._start(branches))

    def cancel(self, branch: VLLMBranch) -> None:
        """Cancel a branch; it still delivers its end."""
        with contextlib.suppress(BackendError):
            self._call_soon(lambda: self._cancel(branch))

    def clear(self) -> None:
        """Drop the prefix cache. Branches that start later wait for it."""
        with contextlib.suppress(BackendError):
            self._call_soon(self._clear)

    async def close(self) -> None:
        """Break every branch."""
        self.closing = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _call_soon(self, call: Callable[[], None]) -> None:
        try:
            self.loop.call_soon_threadsafe(call)
        except RuntimeError as error:  # the loop is closed
            raise closed_error() from error

    def _start(self, branches: Sequence[VLLMBranch]) -> None:
        for branch in branches:
            if self.closing:
                branch.fail(closed_error())
                continue
            self._tasks[branch] = task = self.loop.create_task(self._run(branch))
            task.add_done_callback(functools.partial(self._done, branch))

    def _cancel(self, branch: VLLMBranch) -> None:
        if (task := self._tasks.get(branch)) is not None:
            task.cancel()

    async def _run(self, branch: VLLMBranch) -> None:
        """Generate a branch to its end."""
        logprobs = self._info.capabilities.logprobs
        params = branch_params(branch.sampling, branch.key, len(branch.prefix), logprobs=logprobs)
        await self._cleared()
        outputs = self.client.generate(
            tokens_prompt(branch.prefix),
            params,
            self._next_name(),
            lora_request=self._adapter,
            priority=branch.priority if self._info.prioritized else 0,
            data_parallel_rank=branch.rank,
        )
        async with contextlib.aclosing(outputs):  # closing it early aborts the request
            async for output in outputs:
                branch.receive(output)
                if branch.reason is StopReason.STOP or branch.abandoned:
                    return

    def _done(self, branch: VLLMBranch, task: "asyncio.Task[None]") -> None:
        """Deliver the end of a branch, also of one whose task was cancelled before it ran."""
        self._tasks.pop(branch, None)
        error = None if task.cancelled() else task.exception()
        if branch.reason is not None:
            branch.end(branch.reason)
        elif error is not None:
            branch.fail(request_error(error))
        elif self.closing:
            branch.fail(closed_error())
        else:
            branch.end(StopReason.CANCELLED)

    # Scores

    async def score(self, prefix: tuple[int, ...], continuations: Sequence[Sequence[int]], rank: int | None) -> Scores:
        """Return the log-probabilities of tokens after `prefix`. Raises BackendError."""
        if self.closing:
            raise closed_error()
        await self._cleared()
        rows = await asyncio.gather(*(self._score(prefix, tokens, rank) for tokens in continuations))
        cost = sum((row.cost for row in rows), Usage())
        return Scores(tuple(logprobs for row in rows for logprobs in row.logprobs), cost)

    async def _score(self, prefix: tuple[int, ...], tokens: Sequence[int], rank: int | None) -> Scores:
        """Score one continuation, which is a request of its own."""
        if not tokens:
            return Scores(((),), Usage())
        cost = Usage()
        for skip_cache in (False, True):
            try:
                output = await self._score_request((*prefix, *tokens), skip_cache, rank)
            except Exception as error:
                raise request_error(error) from error
            cached = output.num_cached_tokens or 0
            reused = min(cached, len(prefix))
            cost += Usage(prompt=len(prefix), reused=reused, prefilled=len(prefix) - reused, forward_passes=1.0)
            # vLLM reports no log-probabilities for cached tokens, which may include the continuation.
            if cached < len(prefix):
                break
        entries = (output.prompt_logprobs or ())[-len(tokens) :]
        logprobs = tuple(entry[token].logprob for entry, token in zip(entries, tokens, strict=True) if entry)
        return Scores((logprobs,), cost + Usage(scored=len(tokens)))

    async def _score_request(self, token_ids: Sequence[int], skip_cache: bool, rank: int | None) -> RequestOutput:
        outputs = self.client.generate(
            tokens_prompt(token_ids),
            scoring_params(skip_cache=skip_cache),
            self._next_name(),
            lora_request=self._adapter,
            data_parallel_rank=rank,
        )
        async with contextlib.aclosing(outputs):
            (output,) = [output async for output in outputs]
        return output

    # The prefix cache

    def _clear(self) -> None:
        self._clearing = self.loop.create_task(self._drop_prefix_cache())

    async def _drop_prefix_cache(self) -> None:
        with contextlib.suppress(Exception):  # of a dead engine; the next request reports it
            for _ in range(_CLEAR_TRIES):
                if await self.client.reset_prefix_cache():
                    return
                await asyncio.sleep(_CLEAR_PAUSE)

    async def _cleared(self) -> None:
        """Wait until the prefix cache is dropped."""
        if (clearing := self._clearing) is not None and not clearing.done():
            await asyncio.wait({clearing})  # unlike await, it does not cancel the task with the branch

    def _next_name(self) -> str:
        return f"{self._name}-{next(self._numbers)}"
