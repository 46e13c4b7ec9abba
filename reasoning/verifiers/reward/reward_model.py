"""Reward model verifier: batches calls, reads paths with `reader`, computes scores with `network`."""

import asyncio
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, NamedTuple

from branchwise.core.errors import BackendError, BranchwiseError, MissingExtraError
from branchwise.core.path import Path
from branchwise.verifiers.reward.reader import Reading, RewardReader
from branchwise.verifiers.reward.settings import RewardSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class _Call(NamedTuple):
    path: Path
    score: asyncio.Future[float]


@dataclass(slots=True)
class _Queue:
    """Waiting calls of one event loop."""

    calls: list[_Call]
    worker: asyncio.Task[None] | None = None  # kept, because the event loop holds only weak references


class RewardModel:
    """Verifier over a Hugging Face classifier. The score is a probability, 0 to 1.

    A sequence classifier is an outcome reward model: it scores the whole conversation at its last token. A token
    classifier is a process reward model: it scores each step at its last token, and `RewardSettings.reduce` combines
    the scores. With one label the score is its sigmoid, with two the probability of the second.

    The input is the question's turns and the path's text in the model's chat template; without a template, the
    question, a line break and the text. Waiting calls are scored in one forward pass that computes their common prefix
    once; each score equals that of the text alone.

    branchwise ships no reward model. Tests use random weights, which verify the computation but not the judgment of any
    model: measure yours before a search relies on it. Models that mark steps with a special token, or need their own
    code, are not read the way they were trained.
    """

    def __init__(
        self,
        network: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        settings: RewardSettings | None = None,
        *,
        idle: Callable[[], None] | None = None,
    ) -> None:
        """`idle` is called after each pass, in the computing thread.

        Raises ModelError if the network is not a reward model, MissingExtraError without the extra `engine`.
        """
        try:
            from branchwise.verifiers.reward.network import RewardNetwork
        except ImportError as error:
            raise MissingExtraError(error.name or "torch", "engine") from error
        self.settings = settings or RewardSettings()
        self._network = RewardNetwork(network)
        known = self._network
        self._reader = RewardReader(tokenizer, process=known.process, pad=known.pad, context=known.context)
        self._idle = idle
        # One thread: every computing thread occupies all processors.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="branchwise-reward")
        self._queues: dict[asyncio.AbstractEventLoop, _Queue] = {}

    @classmethod
    def load(
        cls, folder: FilePath, settings: RewardSettings | None = None, *, idle: Callable[[], None] | None = None
    ) -> "RewardModel":
        """Load the reward model in `folder`. Raises ModelError, ConfigError or MissingExtraError."""
        settings = settings or RewardSettings()
        try:
            from branchwise.verifiers.reward.network import load_network, load_tokenizer
        except ImportError as error:
            raise MissingExtraError(error.name or "torch", "engine") from error
        tokenizer = load_tokenizer(folder)
        return cls(load_network(folder, settings), tokenizer, settings, idle=idle)

    async def __call__(self, path: Path) -> float:
        """Return the score of a path. Raises BackendError if it cannot be scored."""
        loop = asyncio.get_running_loop()
        call = _Call(path, loop.create_future())
        queue = self._queues.get(loop)
        if queue is None:
            queue = self._queues[loop] = _Queue([])
            queue.worker = loop.create_task(self._work(queue))
        queue.calls.append(call)
        return await call.score

    async def _work(self, queue: _Queue) -> None:
        """Score waiting calls until none is left."""
        loop = asyncio.get_running_loop()
        try:
            await asyncio.sleep(0)  # let calls of the same moment join the batch
            while queue.calls:
                waiting = [call for call in queue.calls if not call.score.done()]  # the others were cancelled
                batch, queue.calls = waiting[: self.settings.batch], waiting[self.settings.batch :]
                if batch:
                    await self._answer(batch)
        finally:
            del self._queues[loop]

    async def _answer(self, batch: Sequence[_Call]) -> None:
        """Score a batch and resolve its calls."""
        scored: Sequence[float | Exception]
        try:
            paths = [call.path for call in batch]
            scored = await asyncio.get_running_loop().run_in_executor(self._thread, self._score, paths)
        except Exception as error:  # every caller must get the error
            scored = [error] * len(batch)
        for call, score in zip(batch, scored, strict=True):
            if call.score.done():
                continue
            if isinstance(score, Exception):
                call.score.set_exception(score)
            else:
                call.score.set_result(score)

    def _score(self, paths: Sequence[Path]) -> list[float | Exception]:
        """Return a score or an error for each path."""
        readings: list[Reading | Exception] = []
        for path in paths:
            try:
                readings.append(self._reader.read(path))
            except Exception as error:  # a tokenizer or template can fail in its own way
                readings.append(error if isinstance(error, BranchwiseError) else _failed(error))
        scores = iter(self._compute([reading for reading in readings if isinstance(reading, Reading)]))
        if self._idle is not None:
            self._idle()
        return [next(scores) if isinstance(reading, Reading) else reading for reading in readings]

    def _compute(self, readings: Sequence[Reading]) -> list[float | Exception]:
        if not readings:
            return []
        try:
            return [self._reduce(values) for values in self._network.scores(readings)]
        except Exception as error:  # for example out of memory
            if len(readings) == 1:
                return [_failed(error)]
        return [score for reading in readings for score in self._compute([reading])]

    def _reduce(self, values: Sequence[float]) -> float | Exception:
        if any(map(math.isnan, values)):
            return BackendError("reward model: its score is not a number", retryable=False, hint="try dtype=float32")
        return {"last": values[-1], "min": min(values), "product": math.prod(values)}[self.settings.reduce]


def _failed(error: Exception) -> BackendError:
    reason = " ".join(str(error).split())[:300]
    problem = f"reward model: failed with {type(error).__name__}: {reason}"
    return BackendError(problem, retryable=False, hint="a smaller batch or another dtype may help")
