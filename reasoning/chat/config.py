"""What a harness's user may set: one list of arguments for all harnesses."""

import difflib
from collections.abc import Mapping
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from branchwise.backends.base import Backend
from branchwise.backends.models.load import check_names, engine_settings, load
from branchwise.core.budget import Budget
from branchwise.core.errors import ConfigError, require
from branchwise.core.sampling import Sampling
from branchwise.prompts.library import TASKS
from branchwise.prompts.library import task as find_task
from branchwise.prompts.task import Task
from branchwise.prompts.thinking import Thinking
from branchwise.registry import DEFAULT
from branchwise.registry import strategy as find_strategy
from branchwise.strategies.actions import check_paths
from branchwise.strategies.strategy import AnyStrategy


class Arguments(BaseModel):
    """How a harness's questions are answered. Text as command lines give it is read as numbers and switches."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: str = DEFAULT
    """A strategy's name, such as greedy, self-consistency or best-of-n."""
    paths: int = 16
    """Most paths for a question."""
    answers: str | None = None
    """The task whose answer format reads the paths for the vote; the prompt stays the harness's. None: math, which
    reads numbers and expressions in a box, after "answer is", "Answer:" or "####". Options by letter need choice."""
    task: str | None = None
    """A task in full: its instruction is added to the harness's prompt, and its format reads the paths. None: the
    prompt goes through untouched."""
    seed: int = 0
    """Equal seeds give equal texts. A question asked again draws new samples."""
    temperature: float | None = None
    """Used in place of the harness's own; None leaves it to the harness."""
    max_tokens: int | None = None
    """Most tokens of a path where the harness does not say; None: 512."""
    budget_tokens: int | None = None
    """Most tokens to sample for a question."""
    budget_seconds: float | None = None
    """Most seconds to take for a question, from when it is its turn."""
    thinking: bool | None = None
    """The chat template's switch; None leaves the template's default."""
    thinking_budget: int | None = None
    """Most tokens of thinking before the answer."""
    device: str | None = None
    """cpu, cuda, ...; None: a GPU if there is one."""
    dtype: str | None = None
    """float32, bfloat16, ...; None: the model's own."""
    speculation: str = "auto"
    """auto drafts tokens where that pays; off. The tokens are the same."""
    draft_model: str | None = None
    """A smaller model with the same tokenizer that drafts, too."""

    @field_validator("speculation", mode="before")
    @classmethod
    def _switch(cls, value: object) -> object:
        """Where arguments are YAML, off is a switch."""
        return {True: "auto", False: "off"}[value] if isinstance(value, bool) else value

    @classmethod
    def read(cls, given: Mapping[str, object]) -> "Arguments":
        """The arguments by name. Raises ConfigError for the first that is unknown or makes no sense."""
        for name in given:
            if name not in cls.model_fields:
                near = difflib.get_close_matches(name, cls.model_fields, n=1)
                hint = f"did you mean {near[0]}?" if near else f"use some of {', '.join(cls.model_fields)}"
                raise ConfigError(name, "is no argument", hint)
        try:
            arguments = cls.model_validate(dict(given))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = str(first["loc"][0])
            raise ConfigError(field, f"is {given[field]!r}", first["msg"]) from error
        arguments.check()
        return arguments

    def check(self) -> None:
        """ConfigError for a value that makes no sense, before a model is loaded for it."""
        check_paths(self.paths)
        require(
            self.answers is None or self.answers in TASKS,
            "answers", f"{self.answers!r} is unknown", f"use one of {', '.join(TASKS)}",
        )  # fmt: skip
        require(
            self.answers is None or self.task is None,
            "answers", "is given beside task, which has answers of its own", "leave one of them out",
        )  # fmt: skip
        self.strategy_for(self.sampling(Sampling()))
        self.as_task()
        self.budget()

    def sampling(self, asked: Sampling) -> Sampling:
        """How paths are drawn where the harness asks for `asked`."""
        return asked if self.temperature is None else replace(asked, temperature=self.temperature)

    def strategy_for(self, sampling: Sampling) -> AnyStrategy:
        """The strategy. Raises ConfigError where it would draw the same path over and over."""
        require(
            sampling.temperature > 0 or self.paths == 1 or self.strategy == "greedy",
            "temperature", f"is 0, so all {self.paths} paths would be the same (greedy decoding is asked for)",
            "set temperature=0.7 among the model's arguments, or strategy=greedy",
        )  # fmt: skip
        return find_strategy(self.strategy, self.paths, sampling)

    def as_task(self) -> Task:
        """How questions are put and answers are read."""
        read_like = find_task(self.task or self.answers or "math")
        task = read_like if self.task is not None else Task(name=read_like.name, format=read_like.format)
        return replace(
            task,
            max_tokens=task.max_tokens if self.max_tokens is None else self.max_tokens,
            thinking=Thinking(self.thinking, self.thinking_budget),
        )

    def budget(self) -> Budget:
        """What one question may spend."""
        return Budget(self.budget_tokens, self.budget_seconds)

    def load(self, model: str) -> Backend:
        """The engine with `model`, fetched if need be. Raises ModelError, ConfigError, MissingExtraError."""
        check_names(model, self.draft_model)  # importing torch takes seconds
        settings = engine_settings(
            device=self.device, dtype=self.dtype, speculation=self.speculation, draft_model=self.draft_model
        )
        return load(model, settings=settings)
