"""Chat completions answered by strategies, without a web framework: any server can route requests to it."""

import asyncio
import random
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from branchwise.backends.base import Backend
from branchwise.chat.limits import Limits
from branchwise.chat.turn import Turn, free_turn
from branchwise.core.result import Outcome, Result
from branchwise.core.sampling import Sampling
from branchwise.driver import Observer, Stop, Verifier, solve, together
from branchwise.registry import DEFAULT_STRATEGY, parse_strategy
from branchwise.serving.completion import ChatCompletionBody
from branchwise.serving.progress import RunProgress
from branchwise.serving.reply import ReplyHeader, choices
from branchwise.serving.request import ChatRequest
from branchwise.serving.resolve import ResolvedRequest, request_field_names, resolve
from branchwise.serving.stream import ReplyStream

_RANDOM = random.SystemRandom()


class ChatCompletions:
    """Answers chat completion requests over one backend, many at the same time.

    `strategy` answers requests that name none, `verifier` checks paths for strategies that need one,
    `allow_fallback` lets strategies that continue paths vote where the backend continues none, and `observer`
    receives the events of every run. `seed` makes the seed of a request without one; `clock` returns Unix time.
    """

    def __init__(
        self,
        backend: Backend,
        limits: Limits | None = None,
        *,
        observer: Observer | None = None,
        strategy: str = DEFAULT_STRATEGY,
        verifier: Verifier | None = None,
        allow_fallback: bool = False,
        seed: Callable[[], int] = lambda: _RANDOM.getrandbits(32),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises ConfigError for an unknown strategy."""
        parse_strategy(strategy, 1, Sampling())
        self.backend = backend
        self.limits = limits or Limits()
        self.strategy = strategy
        self.verifier = verifier
        self.allow_fallback = allow_fallback
        self._observer = observer
        self._seed = seed
        self._clock = clock
        self._stops: set[Stop] = set()

    def resolve(self, request: ChatRequest) -> ResolvedRequest:
        """Return the arguments of the run. Raises ConfigError for an invalid or too expensive request."""
        return resolve(
            request,
            self.backend.capabilities,
            self.limits,
            default_seed=self._seed(),
            default_strategy=self.strategy,
            has_verifier=self.verifier is not None,
        )

    async def reply(self, request: ResolvedRequest, turn: Turn = free_turn) -> ChatCompletionBody:
        """Return the whole reply. Cancelling it stops every branch. Raises BranchwiseError.

        `turn` is entered for the time of the run; entering it may wait, or raise HTTPError.
        """
        keep_texts = request.streams_text or request.is_plain
        progress = RunProgress(keep_texts, standings=False)
        result = await self._run(request, progress, turn)
        return self._header(request).completion(result, request, choices(result, request, progress.branch_texts()))

    async def stream(self, request: ResolvedRequest, turn: Turn = free_turn) -> AsyncGenerator[str, None]:
        """Yield the reply as server-sent events, "data: [DONE]" last. Closing it stops every branch.

        Raises BranchwiseError before the first event; later errors become an event. The turn is over when the run
        ends, however long the client takes to read.
        """
        progress = RunProgress(request.streams_text or request.is_plain)
        run = asyncio.create_task(self._run(request, progress, turn))
        stream = ReplyStream(request, self._header(request), progress)
        try:
            async with aclosing(stream.events(run)) as events:
                async for event in events:
                    yield event
        finally:
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)

    def stop(self) -> None:
        """End every running question with its best answer so far."""
        for stop in list(self._stops):
            stop.set()

    def _header(self, request: ResolvedRequest) -> ReplyHeader:
        return ReplyHeader(f"chatcmpl-{uuid.uuid4().hex}", int(self._clock()), request.request.model)

    async def _run(self, request: ResolvedRequest, progress: RunProgress, turn: Turn) -> Result:
        """Return the result of the run. Raises the first error if every path failed."""
        stop = Stop()
        async with turn() as charge:
            self._stops.add(stop)
            try:
                with request_field_names():
                    result = await solve(
                        request.messages,
                        self.backend,
                        strategy=request.strategy,
                        task=request.task,
                        budget=request.budget,
                        seed=request.seed,
                        verifier=self.verifier,
                        observer=together(progress, self._observer),
                        stop=stop,
                        allow_fallback=self.allow_fallback,
                    )
                    if result.outcome is Outcome.FAILED:
                        raise progress.errors[0]
                return result
            finally:
                self._stops.discard(stop)
                charge(progress.sampled)
