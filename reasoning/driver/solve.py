"""Solve questions: one, several in one run, or one from code that does not await."""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from typing import Any, TypedDict, TypeVar, Unpack

from pydantic import BaseModel

from branchwise.backends.base import Backend
from branchwise.core.budget import Budget
from branchwise.core.errors import require
from branchwise.core.question import Question
from branchwise.core.result import Result
from branchwise.driver.arguments import (
    budget_of,
    check_backend,
    check_callable,
    check_names,
    question_list,
    seed_of,
    stop_of,
    strategy_of,
    task_of,
)
from branchwise.driver.events import Observer
from branchwise.driver.fallbacks import runnable
from branchwise.driver.reward import RewardFunction, as_verifier, with_reward
from branchwise.driver.run import Run, RunConfig
from branchwise.driver.scheduler import Verifier
from branchwise.driver.stop import Stop
from branchwise.prompts.task import Task
from branchwise.strategies.strategy import AnyStrategy

Returned = TypeVar("Returned")


class SolveOptions(TypedDict, total=False):
    """Keyword arguments of `solve`, `solve_batch` and `solve_sync`. All are optional; `help(solve)` describes them."""

    strategy: AnyStrategy | str | None
    task: Task | str | None
    answer_type: type[BaseModel] | None
    budget: Budget | None
    seed: int
    verifier: Verifier | None
    reward_fn: RewardFunction | None
    observer: Observer | None
    stop: Stop | None
    allow_fallback: bool


async def solve(question: Question, backend: Backend, **options: Unpack[SolveOptions]) -> Result:
    """Answer one question with many reasoning paths, and return the answer with its votes, paths and usage.

    question     text, `Messages`, or a list of messages such as {"role": "user", "content": "What is 6 times 7?"}
    backend      the model: `bw.load(...)`, or another backend of `branchwise.backends`

    Options, all by keyword:

    strategy     decides what is sampled and which answer wins: an object such as SelfConsistency(paths=8), or its name
                 as on the command line, "self-consistency:paths=8". Default: AdaptivePathConsistency()
    task         the prompt and the answer format: a `Task`, or the name of one of `bw.task`. Default: "math", but
                 "free-form" for strategies that compare replies (judge, universal- and semantic-consistency)
    answer_type  a pydantic model: the answer is an object of it, and its fields are voted on one by one
    budget       limits of tokens, seconds and paths, as Budget(tokens=..., seconds=..., paths=...). Default: unlimited
    seed         a whole number. Equal seeds give equal samples, where the backend is keyed. Default: 0
    verifier     a function that scores a `Path`, for strategies that verify
    reward_fn    a function of the question's and a reply's text that returns a score, sync or async. Best-of-N and
                 searches use it as their value; without a strategy, the default is BestOfN(value="verifier")
    observer     a function that receives the events of the run. If it raises, it receives no more, and
                 `Result.errors` says so
    stop         a `Stop`: set it to end the run early, with the best answer so far
    allow_fallback
                 vote with paths from the prompt if the strategy continues paths and the backend can't; the result and a
                 warning say so. Default: False, which raises ConfigError

    Cancelling the awaiting task stops every branch. Raises ConfigError for invalid arguments, an invalid question
    included. A BackendError is never raised: what fails is listed in `Result.errors`.
    """
    run = _run(backend, options)
    (result,) = await run.solve([question])
    if (error := run.questions[0].prompt_error) is not None:
        raise error
    return result


async def solve_batch(questions: Iterable[Question], backend: Backend, **options: Unpack[SolveOptions]) -> list[Result]:
    """Answer several questions in one run that shares the budget. Return one result for each, in order.

    Takes the options of `solve`: strategy, task, answer_type, budget, seed, verifier, reward_fn, observer, stop,
    allow_fallback. A question that is invalid (empty, or too long for the model) fails alone, and its result says why.
    Raises ConfigError for other invalid arguments.
    """
    batch = question_list(questions)
    return await _run(backend, options).solve(batch)


def solve_sync(question: Question, backend: Backend, **options: Unpack[SolveOptions]) -> Result:
    """Answer one question from code that does not await; works inside a running event loop too (a notebook).

    Takes the options of `solve`: strategy, task, answer_type, budget, seed, verifier, reward_fn, observer, stop,
    allow_fallback. Ctrl-C stops the run and returns the best answer so far; a second one raises KeyboardInterrupt.
    """
    stop = stop_of(options.get("stop"))
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
    """Return the run's strategy. Raises ConfigError."""
    given = options.get("strategy")
    if options.get("reward_fn") is None:
        return strategy_of(given)
    return with_reward(None if given is None else strategy_of(given))


def _verifier(options: SolveOptions) -> Verifier | None:
    """Return the run's verifier, or its reward function as one. Raises ConfigError."""
    verifier, reward = options.get("verifier"), options.get("reward_fn")
    check_callable(verifier, "verifier")
    check_callable(reward, "reward_fn")
    if reward is None:
        return verifier
    require(verifier is None, "reward_fn", "is given together with verifier", "leave one of them out")
    return as_verifier(reward)


def _run(backend: Backend, options: SolveOptions) -> Run[Any]:
    """Return a new run. Raises TypeError for an option that does not exist, ConfigError for a value."""
    check_names(options, SolveOptions.__annotations__)
    check_backend(backend)
    check_callable(options.get("observer"), "observer")
    given = _strategy(options)
    allow_fallback = options.get("allow_fallback", False)
    strategy, notes = runnable(given, backend.capabilities, allow_fallback=allow_fallback)
    config = RunConfig(
        backend=backend,
        task=task_of(options.get("task"), options.get("answer_type"), given.default_task),
        budget=budget_of(options.get("budget")),
        seed=seed_of(options.get("seed", 0)),
        verifier=_verifier(options),
        observer=options.get("observer"),
        stop=stop_of(options.get("stop")),
        notes=notes,
    )
    return Run(strategy, config)
