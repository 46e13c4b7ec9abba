"""Reward models: classifiers that say how good a path is, or each of its steps."""

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
    """The calls of one event loop that wait."""

    calls: list[_Call]
    worker: asyncio.Task[None] | None = None  # held, for the loop does not


class RewardModel:
    """A verifier over a Hugging Face classifier. Its score is a probability, 0 to 1.

    A classifier of sequences is an outcome reward model: it scores the conversation as a whole, at its last token. A
    classifier of tokens is a process reward model: it scores each step at the token that ends it, and
    `RewardSettings.reduce` makes one score of them. With one label the score is its sigmoid, with two it is the
    probability of the second.

    The model reads the question's turns and the path's text in its own chat template; without a template, the
    question, a line break and the text. Calls that wait together are scored in one forward pass, and what their texts
    begin with in common is computed once; the scores are those of each by itself.

    branchwise brings no reward model and has been tried on random weights alone, which show that the computation is
    right and say nothing of how good a judge any one model is: measure yours before you trust a search to it. Models
    that mark steps with a token of their own, or bring code of their own, are read otherwise than they were trained.
    """

    def __init__(
        self,
        network: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        settings: RewardSettings | None = None,
        *,
        idle: Callable[[], None] | None = None,
    ) -> None:
        """`idle` is called after each pass, in the thread that computes.

        Raises ModelError where the network is no reward model, MissingExtraError without the extra `engine`.
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
        # One thread, for every thread that computes keeps processors busy.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="branchwise-reward")
        self._queues: dict[asyncio.AbstractEventLoop, _Queue] = {}

    @classmethod
    def load(
        cls, folder: FilePath, settings: RewardSettings | None = None, *, idle: Callable[[], None] | None = None
    ) -> "RewardModel":
        """The reward model in `folder`. Raises ModelError, ConfigError, MissingExtraError."""
        settings = settings or RewardSettings()
        try:
            from branchwise.verifiers.reward.network import load_network, load_tokenizer
        except ImportError as error:
            raise MissingExtraError(error.name or "torch", "engine") from error
        tokenizer = load_tokenizer(folder)
        return cls(load_network(folder, settings), tokenizer, settings, idle=idle)

    async def __call__(self, path: Path) -> float:
        """How good a path is. Raises BackendError where it can't be scored."""
        loop = asyncio.get_running_loop()
        call = _Call(path, loop.create_future())
        queue = self._queues.get(loop)
        if queue is None:
            queue = self._queues[loop] = _Queue([])
            queue.worker = loop.create_task(self._work(queue))
        queue.calls.append(call)
        return await call.score

    async def _work(self, queue: _Queue) -> None:
        """Score what waits, until nothing does."""
        loop = asyncio.get_running_loop()
        try:
            await asyncio.sleep(0)  # those that are asked for together come together
            while queue.calls:
                wanted = [call for call in queue.calls if not call.score.done()]  # the others were given up
                batch, queue.calls = wanted[: self.settings.batch], wanted[self.settings.batch :]
                if batch:
                    await self._answer(batch)
        finally:
            del self._queues[loop]

    async def _answer(self, batch: Sequence[_Call]) -> None:
        """Score some calls and tell each what came of it."""
        scored: Sequence[float | Exception]
        try:
            paths = [call.path for call in batch]
            scored = await asyncio.get_running_loop().run_in_executor(self._thread, self._score, paths)
        except Exception as error:  # whoever waits must be told
            scored = [error] * len(batch)
        for call, score in zip(batch, scored, strict=True):
            if call.score.done():
                continue
            if isinstance(score, Exception):
                call.score.set_exception(score)
            else:
                call.score.set_result(score)

    def _score(self, paths: Sequence[Path]) -> list[float | Exception]:
        """A score for each path, or why there is none."""
        readings: list[Reading | Exception] = []
        for path in paths:
            try:
                readings.append(self._reader.read(path))
            except Exception as error:  # a tokenizer or template can fail in its own way
                readings.append(error if isinstance(error, BranchwiseError) else _failed(error))
        scores = iter(self._computed([reading for reading in readings if isinstance(reading, Reading)]))
        if self._idle is not None:
            self._idle()
        return [next(scores) if isinstance(reading, Reading) else reading for reading in readings]

    def _computed(self, readings: Sequence[Reading]) -> list[float | Exception]:
        if not readings:
            return []
        try:
            return [self._reduced(values) for values in self._network.scores(readings)]
        except Exception as error:  # too little memory, say
            if len(readings) == 1:
                return [_failed(error)]
        return [score for reading in readings for score in self._computed([reading])]

    def _reduced(self, values: Sequence[float]) -> float | Exception:
        if any(map(math.isnan, values)):
            return BackendError("reward model: its score is no number", retryable=False, hint="try dtype=float32")
        return {"last": values[-1], "min": min(values), "product": math.prod(values)}[self.settings.reduce]


def _failed(error: Exception) -> BackendError:
    reason = " ".join(str(error).split())[:300]
    problem = f"reward model: failed with {type(error).__name__}: {reason}"
    return BackendError(problem, retryable=False, hint="a smaller batch or another dtype may help")
