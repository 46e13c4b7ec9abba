"""The front door: solve one question or several, awaited or not."""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import TypeVar

from pydantic import BaseModel

from branchwise.backends.base import Backend
from branchwise.core.budget import UNLIMITED, Budget
from branchwise.core.errors import ConfigError, require
from branchwise.core.messages import Question
from branchwise.core.result import Result
from branchwise.driver.observe import Observer
from branchwise.driver.report import result
from branchwise.driver.run import Run
from branchwise.driver.setup import Setup, Verifier
from branchwise.driver.stop import Stop
from branchwise.prompts.library import TASKS, structured
from branchwise.prompts.task import Task
from branchwise.strategies.strategy import AnyStrategy
from branchwise.strategies.voting.adaptive_path_consistency import AdaptivePathConsistency

Returned = TypeVar("Returned")


async def solve(
    question: Question,
    backend: Backend,
    *,
    strategy: AnyStrategy | None = None,
    task: Task | None = None,
    answer_type: type[BaseModel] | None = None,
    budget: Budget = UNLIMITED,
    seed: int = 0,
    verifier: Verifier | None = None,
    observer: Observer | None = None,
    stop: Stop | None = None,
) -> Result:
    """Answer one question.

    `strategy` defaults to AdaptivePathConsistency(), `task` to a math problem. `answer_type` asks for a pydantic
    object, voted field by field. Cancelling the awaiting task stops every branch; `stop` ends the run
    with the best answer so far. Raises ConfigError for arguments that make no sense, the question
    included, BackendError never: what fails is in `Result.errors`, as is an observer that fails, which
    is then told nothing more.
    """
    setup = _setup(backend, task, answer_type, budget, seed, verifier, observer, stop)
    run = Run(strategy or AdaptivePathConsistency(), setup)
    decisions = await run.solve([question])
    (account,) = run.accounts
    if account.root is None and account.errors and isinstance(account.errors[0], ConfigError):
        raise account.errors[0]
    return result(account, decisions[0], setup.task, run.report.error)


async def solve_batch(
    questions: Sequence[Question],
    backend: Backend,
    *,
    strategy: AnyStrategy | None = None,
    task: Task | None = None,
    answer_type: type[BaseModel] | None = None,
    budget: Budget = UNLIMITED,
    seed: int = 0,
    verifier: Verifier | None = None,
    observer: Observer | None = None,
    stop: Stop | None = None,
) -> list[Result]:
    """Answer several questions in one run that shares the budget; one result for each, in order.

    A question that can't be asked (it is empty, or too long for the model) fails alone: its result says
    why. Raises ConfigError for other arguments that make no sense.
    """
    require(bool(questions), "questions", "are none", "ask at least one")
    setup = _setup(backend, task, answer_type, budget, seed, verifier, observer, stop)
    run = Run(strategy or AdaptivePathConsistency(), setup)
    decisions = await run.solve(questions)
    return [
        result(account, decision, setup.task, run.report.error)
        for account, decision in zip(run.accounts, decisions, strict=True)
    ]


def _setup(
    backend: Backend,
    task: Task | None,
    answer_type: type[BaseModel] | None,
    budget: Budget,
    seed: int,
    verifier: Verifier | None,
    observer: Observer | None,
    stop: Stop | None,
) -> Setup:
    asked = task or TASKS["math"]
    if answer_type is not None:
        asked = structured(answer_type, task)
    return Setup(backend, asked, budget, seed, verifier, observer, stop or Stop())


def solve_sync(
    question: Question,
    backend: Backend,
    *,
    strategy: AnyStrategy | None = None,
    task: Task | None = None,
    answer_type: type[BaseModel] | None = None,
    budget: Budget = UNLIMITED,
    seed: int = 0,
    verifier: Verifier | None = None,
    observer: Observer | None = None,
    stop: Stop | None = None,
) -> Result:
    """`solve` for code that does not await; works inside a running event loop too (a notebook).

    Ctrl-C stops the run and returns the best answer so far; a second one raises KeyboardInterrupt.
    """
    stop = stop or Stop()
    return run_sync(
        lambda: solve(
            question,
            backend,
            strategy=strategy,
            task=task,
            answer_type=answer_type,
            budget=budget,
            seed=seed,
            verifier=verifier,
            observer=observer,
            stop=stop,
        ),
        stop,
    )


def run_sync(start: Callable[[], Coroutine[None, None, Returned]], stop: Stop) -> Returned:
    """Run a coroutine to its end in an event loop of its own thread.

    A thread, so that it works wherever it is called, and so that an interrupt of the calling thread
    can ask the run to stop instead of tearing it down.
    """
    done: Future[Returned] = Future()

    async def work_to_the_end() -> None:
        # Not what asyncio.run returns: that waits for threads, a verifier's that hangs among them.
        done.set_result(await start())

    def work() -> None:
        try:
            asyncio.run(work_to_the_end())
        except BaseException as error:  # handed to the calling thread
            if not done.done():
                done.set_exception(error)

    # In the caller's context, as an awaited run is: what traces it finds the span it belongs to there.
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(work,), name="branchwise-run", daemon=True).start()
    try:
        # A future, not Thread.join(): a join that was interrupted takes the thread for finished.
        return done.result()
    except KeyboardInterrupt:
        stop.set()
        return done.result()
