"""Prompts of an evaluation harness answered by a strategy. Every prompt gets a reply: a failure is in its result."""

from collections import Counter
from dataclasses import replace

from branchwise.backends.base import Backend
from branchwise.chat.config import ChatConfig
from branchwise.chat.reply import Reply, reply_from
from branchwise.core.keys import repeat_seed, root_key
from branchwise.core.messages import Messages
from branchwise.core.sampling import Sampling
from branchwise.driver import Stop, solve_batch


class RepeatCounter:
    """Counts how often each prompt was seen, so that repeats can get new samples."""

    def __init__(self) -> None:
        self._seen: Counter[int] = Counter()  # by the prompt's key

    def count(self, prompt: Messages) -> int:
        """Return how often the prompt was counted before, and count it. It may be invalid: its answer says so."""
        key = root_key(0, repr(prompt))  # has half characters escaped, which JSON has not
        self._seen[key] += 1
        return self._seen[key] - 1


class Responder:
    """Answers prompts over one backend. Concurrent calls are safe.

    It differs from `ChatSession` as evaluation requires: the temperature of the config replaces the harness's, the
    harness counts repeats, and a failed prompt does not raise.
    """

    def __init__(self, backend: Backend, config: ChatConfig) -> None:
        self.backend = backend
        self.config = config
        # A harness measures the vote, so a first reply that states no answer must not end it.
        self._task = replace(config.resolve_task(), tentative=False)

    async def answer(
        self,
        prompt: Messages,
        sampling: Sampling,
        *,
        seed: int | None = None,
        repeat: int = 0,
        stop: Stop | None = None,
    ) -> Reply:
        """Answer a prompt. If it is invalid or all its paths fail, the content is empty and the result says why.

        `seed` replaces that of the config. Each `repeat` of a prompt gets samples of its own. Raises ConfigError if the
        strategy does not work with the sampling.
        """
        config = self.config
        (result,) = await solve_batch(
            [prompt],
            self.backend,
            strategy=config.resolve_strategy(config.override(sampling)),
            task=self._task,
            budget=config.budget(),
            seed=repeat_seed(config.seed if seed is None else seed, repeat),
            stop=stop,
            allow_fallback=config.allow_fallback,
        )
        return reply_from(result, self._task.thinking)
