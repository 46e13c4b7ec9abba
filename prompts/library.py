"""The built-in tasks, by name, and tasks with structured answers."""

import json
from dataclasses import replace

from pydantic import BaseModel

from branchwise.answers.choices import Letter, YesNo
from branchwise.answers.code import Code
from branchwise.answers.expression import Expression
from branchwise.answers.formats import Math, Structured, Text, Whole
from branchwise.answers.meaning import Embed, Meaning
from branchwise.core.errors import ConfigError
from branchwise.core.validation import suggestion
from branchwise.prompts.exemplars import ARITHMETIC, GAME24
from branchwise.prompts.task import Task

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="math",
            format=Math(),
            instruction="Please reason step by step, and put your final answer within \\boxed{}.",
        ),
        Task(
            name="math-few-shot",
            format=Math(),
            instruction='Reason step by step as in the examples, and end with "The answer is".',
            exemplars=ARITHMETIC,
        ),
        Task(
            name="choice",
            format=Letter(),
            instruction='Think step by step, then end with "The answer is (X)", where X is the letter of an option.',
        ),
        Task(
            name="yes-no",
            format=YesNo(),
            instruction='Think step by step, then end with "The answer is yes" or "The answer is no".',
        ),
        Task(
            name="true-false",
            format=YesNo(("True", "False")),
            instruction='Think step by step, then end with "The answer is True" or "The answer is False".',
        ),
        Task(
            name="text",
            format=Text(),
            instruction='Think step by step, then end with a line "Answer:" and the answer alone.',
        ),
        Task(name="free-form", format=Whole(), max_tokens=1024),
        Task(
            name="code",
            format=Code(),
            instruction="You are an expert Python programmer. Answer with one Python code block that holds the whole "
            "program that is asked for: every import it needs, and functions under the names that are given. "
            "Write no tests and no examples of use.",
            max_tokens=1024,
        ),
        Task(
            name="game24",
            format=Expression(),
            instruction="Make 24 out of the numbers you are given: use each of them exactly once, with + - * / and "
            "brackets, and no other number. In each step, combine two of the numbers that are left, and write down "
            'which are left then. End with a line "Answer:" and the whole expression alone.',
            exemplars=GAME24,
        ),
    )
}


def task(name: str) -> Task:
    """Return the built-in task `name`. Raises ConfigError, which suggests the closest name, if it is unknown."""
    if name not in TASKS:
        fix = suggestion(name, TASKS, f"use one of {', '.join(TASKS)}")
        raise ConfigError("task", f"{name!r} is unknown", fix)
    return TASKS[name]


def by_meaning(embed: Embed, *, similarity: float = 0.9, base: Task | None = None) -> Task:
    """Return a task whose replies vote together if they mean the same, by the cosine of their embeddings.

    `embed` returns the embedding of a text; `similarity` is the least cosine of equal replies, which depends on the
    embedding model. `base` has the prompt and the answers that are compared; by default, the whole reply to the prompt
    as it is. Raises ConfigError for an invalid value.
    """
    task = base or TASKS["free-form"]
    return replace(task, format=Meaning(embed, similarity, task.format))


def structured(model: type[BaseModel], base: Task | None = None) -> Task:
    """Return a task whose answers are JSON objects of `model`, voted field by field."""
    schema = model.model_json_schema()
    task = base or Task(name="structured", format=Text(), instruction="Think step by step.")
    return replace(
        task,
        format=Structured(model),
        instruction=f"{task.instruction}\nEnd with one JSON object that fits this JSON schema:\n{json.dumps(schema)}",
    )
