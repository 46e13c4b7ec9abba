"""A backend with a strategy, asked as harnesses ask models: a prompt in, one text out."""

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from branchwise.backends.base import Backend
from branchwise.chat.config import Arguments
from branchwise.core.keys import repeat_seed, root_key
from branchwise.core.messages import Messages
from branchwise.core.path import Path
from branchwise.core.result import Result
from branchwise.core.sampling import Sampling
from branchwise.driver.solve import solve_batch
from branchwise.driver.stop import Stop
from branchwise.prompts.thinking import Thinking


@dataclass(frozen=True, slots=True)
class Reply:
    """What a harness is told."""

    text: str
    """What the chosen path says after its opening, thoughts left out; empty where no path finished."""
    thoughts: str
    """What it thought before."""
    path: Path | None
    """The first path, in issue order, that states the answer with most weight; where no path states one, the first
    that finished."""
    result: Result


class Repeats:
    """How often prompts were asked."""

    def __init__(self) -> None:
        self._asked: Counter[int] = Counter()  # by the prompt's key

    def note(self, question: Messages) -> int:
        """It is asked once more; how often it was before."""
        key = root_key(0, question.model_dump_json())
        self._asked[key] += 1
        return self._asked[key] - 1


class Respondent:
    """Answers prompts; safe to ask several at once."""

    def __init__(self, backend: Backend, arguments: Arguments) -> None:
        self.backend = backend
        self.arguments = arguments
        self._task = arguments.as_task()

    async def answer(
        self,
        question: Messages,
        asked: Sampling,
        *,
        seed: int | None = None,
        repeat: int = 0,
        stop: Stop | None = None,
    ) -> Reply:
        """Answer a prompt. A question that can't be asked or whose paths all fail has an empty text, and its result
        says why.

        `seed` takes the place of the arguments' own. `repeat` counts how often the prompt was asked before: each time
        draws samples of its own. Raises ConfigError for sampling that makes no sense with the strategy.
        """
        arguments = self.arguments
        (result,) = await solve_batch(
            [question],
            self.backend,
            strategy=arguments.strategy_for(arguments.sampling(asked)),
            task=self._task,
            budget=arguments.budget(),
            seed=repeat_seed(arguments.seed if seed is None else seed, repeat),
            stop=stop,
        )
        path = chosen(result)
        if path is None:
            return Reply("", "", None, result)
        return Reply(*spoken(path.answer_text[len(path.opening) :], self._task.thinking), path, result)


class Spoken(NamedTuple):
    """What a path says."""

    text: str
    """Thoughts left out."""
    thoughts: str


def spoken(said: str, thinking: Thinking) -> Spoken:
    """A path's text and what it thought before, without the marks of thoughts."""
    text = thinking.answer_part(said)
    thoughts = "" if text == said else said[: said.rfind(text)].strip()
    return Spoken(text, thoughts.removeprefix(thinking.open).removesuffix(thinking.close).strip())


def chosen(result: Result) -> Path | None:
    """The path to show: see Reply.path. None where none finished."""
    stating = (branch.path for branch in result.paths if branch.answer and branch.answer.value == result.answer)
    return next(stating, result.paths[0].path if result.paths else None)
