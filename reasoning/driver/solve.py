"""The front door: solve one question or several, awaited or not."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from typing import TypeVar

from pydantic import BaseModel

from branchwise.answers.answer import Answer
from branchwise.answers.fields import vote_fields
from branchwise.answers.formats import Structured
from branchwise.backends.base import Backend
from branchwise.budget import UNLIMITED, Budget
from branchwise.consistency.path_consistency import PathConsistency
from branchwise.driver.observe import Observer
from branchwise.driver.run import Ledger, Run, Setup, Verifier
from branchwise.driver.stop import Stop
from branchwise.errors import require
from branchwise.messages import Question
from branchwise.prompts.library import TASKS, structured
from branchwise.prompts.task import Task
from branchwise.result import Branch, Outcome, Result, Vote
from branchwise.strategy import AnyStrategy, Decision, State

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

    `strategy` defaults to PathConsistency(), `task` to a math problem. `answer_type` asks for a pydantic
    object, voted field by field. Cancelling the awaiting task stops every branch; `stop` ends the run
    with the best answer so far. Raises ConfigError for arguments that make no sense, BackendError
    never: branches that fail are in `Result.errors`.
    """
    results = await solve_batch(
        [question],
        backend,
        strategy=strategy,
        task=task,
        answer_type=answer_type,
        budget=budget,
        seed=seed,
        verifier=verifier,
        observer=observer,
        stop=stop,
    )
    return results[0]


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
    """Answer several questions in one run that shares the budget; one result for each, in order."""
    require(bool(questions), "questions", "are none", "ask at least one")
    asked = task or TASKS["math"]
    if answer_type is not None:
        asked = structured(answer_type, task)
    setup = Setup(backend, asked, budget, seed, verifier, observer, stop or Stop())
    run = Run(strategy or PathConsistency(), setup)
    decisions = await run.solve(questions)
    return [_result(run, ledger, decision) for ledger, decision in zip(run.ledgers, decisions, strict=True)]


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

    def work() -> None:
        try:
            done.set_result(asyncio.run(start()))
        except BaseException as error:  # handed to the calling thread
            done.set_exception(error)

    threading.Thread(target=work, name="branchwise-run", daemon=True).start()
    try:
        # A future, not Thread.join(): a join that was interrupted takes the thread for finished.
        return done.result()
    except KeyboardInterrupt:
        stop.set()
        return done.result()


def _result(run: Run[State], ledger: Ledger, decision: Decision) -> Result:
    """Put together what the ledger and the strategy say of one question."""
    outcome = run.outcome
    if decision.answer is None and outcome is Outcome.COMPLETE:
        outcome = Outcome.FAILED if ledger.errors and not ledger.finished else Outcome.NO_ANSWER
    answer, confidence, value = decision.answer, decision.confidence, None
    text = None if answer is None else answer.value
    format_ = run.setup.task.format
    if isinstance(format_, Structured) and answer is not None:
        voted = vote_fields(format_.model, decision.votes or {answer: 1.0})
        if voted is not None:
            value, confidence = voted.value, voted.confidence
            text = value.model_dump_json()
    return Result(
        answer=text,
        confidence=confidence,
        votes=_by_value(decision.votes),
        outcome=outcome,
        usage=ledger.usage.model_copy(update={"seconds": ledger.seconds}),
        paths=tuple(Branch(f.branch, f.path, f.answer, f.steps) for f in ledger.finished),
        tallies={name: Vote(_by_value(t.votes), t.confidence) for name, t in decision.tallies.items()},
        value=value,
        degraded=_degraded(run),
        errors=tuple(dict.fromkeys(ledger.errors)),
    )


def _by_value(votes: Mapping[Answer, float]) -> dict[str, float]:
    return {answer.value: weight for answer, weight in sorted(votes.items(), key=lambda item: -item[1])}


def _degraded(run: Run[State]) -> tuple[str, ...]:
    able = run.setup.backend.capabilities
    notes = list(able.changes)
    if not able.token_in:
        notes.append("prefixes are continued by their text: the server tokenizes them again")
    if not able.keyed:
        notes.append("the backend does not draw by key: the same seed may give other samples")
    return tuple(notes)
