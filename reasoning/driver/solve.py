"""Solve questions: one, several in one run, or one from code that does not await."""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import TypedDict, TypeVar, Unpack

from pydantic import BaseModel

from branchwise.backends.base import Backend
from branchwise.core.budget import UNLIMITED, Budget
from branchwise.core.errors import require
from branchwise.core.question import Question
from branchwise.core.result import Result
from branchwise.driver.events import Observer
from branchwise.driver.run import Run, RunConfig
from branchwise.driver.scheduler import Verifier
from branchwise.driver.stop import Stop
from branchwise.prompts.library import TASKS, structured
from branchwise.prompts.task import Task
from branchwise.strategies.strategy import AnyStrategy
from branchwise.strategies.voting.adaptive_path_consistency import AdaptivePathConsistency

Returned = TypeVar("Returned")


class SolveOptions(TypedDict, total=False):
    """Keyword arguments of `solve`, `solve_batch` and `solve_sync`. All are optional."""

    strategy: AnyStrategy | None
    """Decides what is sampled and which answer wins. Default: AdaptivePathConsistency()."""
    task: Task | None
    """The prompt and the answer format. Default: a math problem."""
    answer_type: type[BaseModel] | None
    """Ask for a pydantic object; its fields are voted on one by one."""
    budget: Budget
    """Limits of tokens, seconds and paths. Default: unlimited."""
    seed: int
    """Equal seeds give equal samples, where the backend is keyed. Default: 0."""
    verifier: Verifier | None
    """Scores paths for strategies that verify."""
    observer: Observer | None
    """Receives the events of the run. If it raises, it receives no more, and `Result.errors` says so."""
    stop: Stop | None
    """Set it to end the run early, with the best answer so far."""


async def solve(question: Question, backend: Backend, **options: Unpack[SolveOptions]) -> Result:
    """Answer one question.

    Options: strategy, task, answer_type, budget, seed, verifier, observer, stop; see `SolveOptions`.

    Cancelling the awaiting task stops every branch. Raises ConfigError for invalid arguments, an invalid question
    included. A BackendError is never raised: what fails is listed in `Result.errors`.
    """
    run = Run(_strategy(options), _config(backend, options))
    (result,) = await run.solve([question])
    if (error := run.questions[0].prompt_error) is not None:
        raise error
    return result


async def solve_batch(questions: Sequence[Question], backend: Backend, **options: Unpack[SolveOptions]) -> list[Result]:
    """Answer several questions in one run that shares the budget. Return one result for each, in order.

    Takes the options of `solve`. A question that is invalid (empty, or too long for the model) fails alone, and its
    result says why. Raises ConfigError for other invalid arguments.
    """
    require(bool(questions), "questions", "got 0", "give at least one")
    return await Run(_strategy(options), _config(backend, options)).solve(questions)


def solve_sync(question: Question, backend: Backend, **options: Unpack[SolveOptions]) -> Result:
    """Answer one question from code that does not await; works inside a running event loop too (a notebook).

    Takes the options of `solve`. Ctrl-C stops the run and returns the best answer so far; a second one raises
    KeyboardInterrupt.
    """
    stop = options.get("stop") or Stop()
    options["stop"] = stop
    return run_sync(lambda: solve(question, backend, **options), stop)


def run_sync(start: Callable[[], Coroutine[None, None, Returned]], stop: Stop) -> Returned:
    """Run a coroutine in an event loop of its own thread, and return what it returns.

    The thread makes the call work inside a running loop. An interrupt of the calling thread sets `stop`, so that the
    run ends in order.
    """
    done: Future[Returned] = Future()

    async def run() -> None:
        # The value is not returned through asyncio.run, which waits for other threads: a verifier's may hang.
        done.set_result(await start())

    def work() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:  # raised again in the calling thread
            if not done.done():
                done.set_exception(error)

    # In the caller's context, so that tracing finds the current span there, as it does for an awaited run.
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(work,), name="branchwise-run", daemon=True).start()
    try:
        # A future instead of Thread.join(): an interrupted join leaves the thread marked as finished.
        return done.result()
    except KeyboardInterrupt:
        stop.set()
        return done.result()


def _strategy(options: SolveOptions) -> AnyStrategy:
    return options.get("strategy") or AdaptivePathConsistency()


def _config(backend: Backend, options: SolveOptions) -> RunConfig:
    """Return the run's configuration. Raises TypeError for an option that does not exist."""
    unknown = options.keys() - SolveOptions.__annotations__.keys()
    if unknown:
        known = ", ".join(SolveOptions.__annotations__)
        raise TypeError(f"{', '.join(sorted(unknown))}: unknown keyword argument; use one of {known}")
    task, answer_type = options.get("task"), options.get("answer_type")
    return RunConfig(
        backend=backend,
        task=(task or TASKS["math"]) if answer_type is None else structured(answer_type, task),
        budget=options.get("budget", UNLIMITED),
        seed=options.get("seed", 0),
        verifier=options.get("verifier"),
        observer=options.get("observer"),
        stop=options.get("stop") or Stop(),
    )
