"""The arguments that users of an integration set, the same for every integration."""

from collections.abc import Mapping
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field, field_validator

from branchwise.backends.base import Backend
from branchwise.backends.models.load import check_names, engine_settings, load
from branchwise.backends.openai.connect import connect
from branchwise.chat.options import validated
from branchwise.chat.task import chat_task
from branchwise.core.budget import Budget
from branchwise.core.errors import ConfigError, require
from branchwise.core.sampling import Sampling
from branchwise.core.validation import suggestion
from branchwise.prompts.task import Task
from branchwise.prompts.thinking import Thinking
from branchwise.registry import DEFAULT_STRATEGY
from branchwise.registry import make_strategy as find_strategy
from branchwise.strategies.actions import DEFAULT_PATHS, check_paths
from branchwise.strategies.strategy import AnyStrategy


class ChatConfig(BaseModel):
    """The strategy, answer format, budget and model settings of a chat. Accepts numbers and booleans as text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: str = DEFAULT_STRATEGY
    """Name of a strategy, such as greedy, self-consistency or best-of-n."""
    paths: int | None = None
    """Maximum number of paths per question; None: the strategy's default, 16."""
    answers: str | None = None
    """Task whose answer format reads the paths for the vote; the prompt stays as it is. None: math, which reads numbers
    and expressions in a box or after "answer is", "Answer:" or "####"; if the first path states none, no other one is
    sampled. Multiple choice by letter needs `choice`. Strategies that compare replies read `free-form`."""
    task: str | None = None
    """Task that adds its instruction to the prompt and reads the paths. None: the prompt stays as it is."""
    seed: int = 0
    """Equal seeds give equal texts. A repeated prompt gets new samples."""
    temperature: float | None = None
    """Replaces the temperature of the harness; None keeps it."""
    max_tokens: int | None = None
    """Maximum number of tokens per path if the harness sets none; None: 512."""
    budget_tokens: int | None = None
    """Maximum number of sampled tokens per question."""
    budget_seconds: float | None = None
    """Maximum number of seconds per question, without the time it waits."""
    thinking: bool | None = None
    """Thinking switch of the chat template; None keeps the template's default."""
    thinking_budget: int | None = None
    """Maximum number of thinking tokens before the answer."""
    base_url: str | tuple[str, ...] | None = None
    """Address of an OpenAI-compatible server that runs the model, or one for each replica; None: it runs in this
    process."""
    api_key: str | None = Field(default=None, repr=False, exclude=True)
    """Key of that server; None takes it from the environment variable OPENAI_API_KEY."""
    context: int | None = None
    """Context length of that server's model in tokens; None: the length that it reports, else 4096."""
    allow_fallback: bool = False
    """Vote with paths from the prompt, with a warning, if the strategy continues paths and the server does not continue
    text; otherwise that is an error."""
    device: str | None = None
    """cpu, cuda, ...; None: a GPU if there is one."""
    dtype: str | None = None
    """float32, bfloat16, ...; None: the dtype of the checkpoint."""
    speculation: str = "auto"
    """auto drafts tokens when that is faster; off never does. The sampled tokens are the same."""
    draft_model: str | None = None
    """Smaller model with the same tokenizer that drafts tokens as well."""

    @field_validator("speculation", mode="before")
    @classmethod
    def _from_yaml(cls, value: object) -> object:
        """Return the text for a boolean: YAML reads `off` as false."""
        return {True: "auto", False: "off"}[value] if isinstance(value, bool) else value

    @classmethod
    def parse(cls, values: Mapping[str, object]) -> "ChatConfig":
        """Return the arguments by name. Raises ConfigError for the first unknown name or invalid value."""
        for name in values:
            if name not in cls.model_fields:
                fix = suggestion(name, cls.model_fields, f"use some of {', '.join(cls.model_fields)}")
                raise ConfigError(name, "is not an argument", fix)
        config = validated(cls, values)
        config.check()
        return config

    def check(self) -> None:
        """Raise ConfigError for an invalid value, before a model is loaded."""
        if self.paths is not None:
            check_paths(self.paths)
        self.resolve_task()
        self.resolve_strategy(self.override(Sampling()))
        self.budget()

    def override(self, sampling: Sampling) -> Sampling:
        """Return the harness's `sampling` with this config's temperature, if it has one."""
        return sampling if self.temperature is None else replace(sampling, temperature=self.temperature)

    def resolve_strategy(self, sampling: Sampling) -> AnyStrategy:
        """Return the strategy. Raises ConfigError if it would sample the same path several times."""
        require(
            sampling.temperature > 0 or self.paths == 1 or self.strategy == "greedy",
            "temperature",
            f"is 0, so all {self.paths or DEFAULT_PATHS} paths would be the same (greedy decoding)",
            "set temperature=0.7 among the model's arguments, or strategy=greedy",
        )
        return find_strategy(self.strategy, self.paths, sampling)

    def resolve_task(self) -> Task:
        """Return the task with the thinking settings and the token limit."""
        default = find_strategy(self.strategy, self.paths, Sampling()).default_task
        task = chat_task(self.task, self.answers, default)
        return replace(
            task,
            max_tokens=task.max_tokens if self.max_tokens is None else self.max_tokens,
            thinking=Thinking(self.thinking, self.thinking_budget),
        )

    def budget(self) -> Budget:
        """Return the budget of one question."""
        return Budget(self.budget_tokens, self.budget_seconds)

    def load(self, model: str | None) -> Backend:
        """Connect to the server, or load `model` into the engine, fetching it if necessary.

        Raises ConfigError, ModelError, BackendError, MissingExtraError.
        """
        if self.base_url is not None:
            for name in ("device", "dtype", "draft_model"):
                require(getattr(self, name) is None, name, "is set together with base_url", "leave one of them out")
            return connect(self.base_url, model, self.api_key, self.context)
        for name in ("api_key", "context"):
            require(getattr(self, name) is None, name, "is set without base_url", "set base_url, or leave it out")
        if model is None:
            raise ConfigError("model", "is missing", "name one, or set base_url, or pass a backend")
        check_names(model, self.draft_model)  # before torch, whose import takes seconds
        settings = engine_settings(
            device=self.device, dtype=self.dtype, speculation=self.speculation, draft_model=self.draft_model
        )
        return load(model, settings=settings)
