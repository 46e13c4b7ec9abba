"""Answering chat completion requests with strategies. No web framework: any server can put it behind its routes."""

import asyncio
import random
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from branchwise.backends.base import Backend
from branchwise.core.result import Outcome, Result
from branchwise.core.sampling import Sampling
from branchwise.driver import Observer, Stop, Verifier, together
from branchwise.driver.report import result as report
from branchwise.driver.run import Run
from branchwise.driver.setup import Setup
from branchwise.registry import DEFAULT, named
from branchwise.serving.limits import Limits
from branchwise.serving.reply import ChatCompletionBody, Heading, choices
from branchwise.serving.request import ChatRequest
from branchwise.serving.resolve import Inquiry, as_sent, inquiry
from branchwise.serving.stream import Stream
from branchwise.serving.transcript import Transcript

_SEEDS = random.SystemRandom()


class Answering:
    """Answers requests over one backend; many at a time.

    `strategy` answers requests whose key names none, `verifier` checks paths for strategies that ask one, `observer`
    is told of every run. `seed` draws the seeds of requests that have none, `clock` gives Unix time.
    """

    def __init__(
        self,
        backend: Backend,
        limits: Limits | None = None,
        *,
        observer: Observer | None = None,
        strategy: str = DEFAULT,
        verifier: Verifier | None = None,
        seed: Callable[[], int] = lambda: _SEEDS.getrandbits(32),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises ConfigError for a strategy that is none."""
        named(strategy, 1, Sampling())
        self.backend = backend
        self.limits = limits or Limits()
        self.strategy = strategy
        self.verifier = verifier
        self._observer, self._seed, self._clock = observer, seed, clock
        self._stops: set[Stop] = set()

    def check(self, request: ChatRequest) -> None:
        """Raises ConfigError, with the field as the request has it, for what makes no sense or is not allowed."""
        self._inquiry(request)

    async def reply(self, request: ChatRequest) -> ChatCompletionBody:
        """The whole reply. Cancelling it stops every branch. Raises BranchwiseError."""
        asked = self._inquiry(request)
        transcript = Transcript(keeps=asked.follows or asked.plain, standings=False)
        result = await self._run(asked, transcript)
        said = choices(result, asked, request.logprobs, transcript.grown())
        return self._heading(request).reply(result, asked, said)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[str, None]:
        """The reply as server-sent events, "data: [DONE]" last. Closing it stops every branch.

        Raises BranchwiseError before the first event; what fails later is told as an event.
        """
        asked = self._inquiry(request)
        transcript = Transcript(keeps=asked.follows or asked.plain)
        run = asyncio.create_task(self._run(asked, transcript))
        stream = Stream(request, asked, self._heading(request), transcript)
        try:
            async with aclosing(stream.events(run)) as events:
                async for event in events:
                    yield event
        finally:
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)

    def stop(self) -> None:
        """End every question under way with its best answer so far."""
        for stop in list(self._stops):
            stop.set()

    def _inquiry(self, request: ChatRequest) -> Inquiry:
        return inquiry(
            request,
            self.backend.capabilities,
            self.limits,
            seed=self._seed(),
            strategy=self.strategy,
            verifies=self.verifier is not None,
        )

    def _heading(self, request: ChatRequest) -> Heading:
        return Heading(f"chatcmpl-{uuid.uuid4().hex}", int(self._clock()), request.model)

    async def _run(self, asked: Inquiry, transcript: Transcript) -> Result:
        """The run to its end. Raises what failed, where nothing came of it."""
        stop = Stop()
        observer = together(transcript, self._observer)
        run = Run(
            asked.strategy,
            Setup(self.backend, asked.task, asked.budget, asked.seed, self.verifier, observer, stop),
        )
        self._stops.add(stop)
        try:
            with as_sent():
                (decision,) = await run.solve([asked.messages])
                (account,) = run.accounts
                result = report(account, decision, asked.task, run.report.error)
                if result.outcome is Outcome.FAILED:
                    raise account.errors[0]
            return result
        finally:
            self._stops.discard(stop)
