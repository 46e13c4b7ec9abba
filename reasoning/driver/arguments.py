"""Arguments of `solve`, checked before anything runs: names become objects, and what can't be used is explained."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import fields
from os import PathLike

from pydantic import BaseModel

from branchwise.backends.base import Backend
from branchwise.core.budget import UNLIMITED, Budget
from branchwise.core.errors import ConfigError, require
from branchwise.core.messages import Message, Messages
from branchwise.core.question import Question
from branchwise.core.sampling import Sampling
from branchwise.core.validation import shortened, whole_number, wrong_type
from branchwise.driver.stop import Stop
from branchwise.prompts.library import structured
from branchwise.prompts.library import task as find_task
from branchwise.prompts.task import Task
from branchwise.registry import make_strategy
from branchwise.strategies.strategy import AnyStrategy, Strategy
from branchwise.strategies.voting.adaptive_path_consistency import AdaptivePathConsistency

_LEAST_SEED, _SEEDS_END = -(1 << 63), 1 << 64


def strategy_of(value: AnyStrategy | str | None) -> AnyStrategy:
    """Return the strategy, made from its spec or by default. Raises ConfigError."""
    if value is None:
        return AdaptivePathConsistency()
    if isinstance(value, str):
        return make_strategy(value, None, Sampling())
    _check_instance(value, Strategy, "strategy", "use its name or an object such as SelfConsistency(paths=8)")
    _check_instance(getattr(value, "sampling", Sampling()), Sampling, "sampling", "use Sampling(temperature=...)")
    return value


def check_names(given: Collection[str], known: Collection[str]) -> None:
    """Raise TypeError for a keyword argument that does not exist, with the place of what belongs to a strategy."""
    unknown = sorted(set(given) - set(known))
    if not unknown:
        return
    hint = f"use one of {', '.join(known)}"
    if unknown[0] == "paths":
        hint = "it belongs to the strategy: strategy=SelfConsistency(paths=...)"
    elif unknown[0] in {field.name for field in fields(Sampling)}:
        hint = f"it belongs to the strategy: strategy=SelfConsistency(sampling=Sampling({unknown[0]}=...))"
    raise TypeError(f"{', '.join(unknown)}: unknown keyword argument; {hint}")


def task_of(value: Task | str | None, answer_type: type[BaseModel] | None, default: str) -> Task:
    """Return the task, found by its name or by the `default` one, with the format of `answer_type`.

    Raises ConfigError.
    """
    task = find_task(value) if isinstance(value, str) else value
    if task is not None:
        _check_instance(task, Task, "task", 'use a name such as "math", or bw.task(...)')
    if answer_type is None:
        return task or find_task(default)
    if not (isinstance(answer_type, type) and issubclass(answer_type, BaseModel)):
        raise ConfigError("answer_type", f"is {shortened(answer_type)}", "use a class derived from pydantic.BaseModel")
    return structured(answer_type, task)


def check_backend(backend: Backend) -> None:
    """Raise ConfigError for the name of a model, or anything else that runs no model."""
    if isinstance(backend, str | PathLike):
        name = str(backend)
        raise ConfigError("backend", f"is the name {shortened(name)}", f"load the model: bw.load({shortened(name)})")
    _check_instance(backend, Backend, "backend", "use a loaded model: bw.load(...)")


def budget_of(value: Budget | None) -> Budget:
    """Return the budget; None is unlimited. Raises ConfigError for anything else."""
    if value is None:
        return UNLIMITED
    _check_instance(value, Budget, "budget", "use Budget(tokens=..., seconds=..., paths=...)")
    return value


def seed_of(value: int) -> int:
    """Return the seed. Raises ConfigError unless it is a whole number of 64 bits."""
    seed = whole_number("seed", value, "use a whole number, or leave it out for 0")
    require(_LEAST_SEED <= seed < _SEEDS_END, "seed", f"is {seed}", "use a number of 64 bits")
    return seed


def stop_of(value: Stop | None) -> Stop:
    """Return the stop, or a new one. Raises ConfigError for anything else, such as stop strings."""
    if value is not None:
        _check_instance(value, Stop, "stop", "use a bw.Stop; strings that end a path go into Sampling(stop=...)")
    return value or Stop()


def check_callable(value: Callable[..., object] | None, field: str) -> None:
    """Raise ConfigError unless a value is a function, or None."""
    if isinstance(value, type) or not (value is None or callable(value)):
        raise wrong_type(field, value, "use a function")


def question_list(questions: Iterable[Question]) -> list[Question]:
    """Return the questions of a batch. Raises ConfigError for a single question, and for none."""
    single = isinstance(questions, str | bytes | Messages | Message | Mapping)
    require(not single, "questions", "is one question", "put it in a list, or call solve")
    if not isinstance(questions, Iterable):
        raise wrong_type("questions", questions, "use a list of questions")
    batch = list(questions)
    require(bool(batch), "questions", "got 0", "give at least one")
    if all(isinstance(question, Mapping | Message) for question in batch):
        raise ConfigError("questions", "has messages of one question", "put them in a list of their own, or call solve")
    return batch


def _check_instance(value: object, kind: type, field: str, fix: str) -> None:
    if isinstance(value, type) and issubclass(value, kind):
        raise ConfigError(field, f"is the class {value.__name__}", f"make an object of it: {value.__name__}(...)")
    if not isinstance(value, kind):
        raise wrong_type(field, value, fix)
