"""The body of a chat completion request: OpenAI's fields, and the key `branchwise`."""

import json
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator

from branchwise.chat.options import SamplingOptions
from branchwise.chat.tool_set import ToolSet
from branchwise.core.errors import ConfigError, require
from branchwise.core.message_json import MessageBody
from branchwise.core.messages import Messages
from branchwise.core.question import as_prompt
from branchwise.core.sampling import Sampling
from branchwise.core.validation import first_field_error, shortened
from branchwise.serving.unsupported_fields import reject_unsupported

_MAX_STOPS = 64
_MAX_TOOLS = 1024


class BudgetBody(BaseModel):
    """The budget of a question; the server's own limits apply as well."""

    model_config = ConfigDict(extra="forbid")

    tokens: int | None = None
    seconds: float | None = None


class StrategyOptions(BaseModel):
    """The key `branchwise`: a strategy answers the question with several paths."""

    model_config = ConfigDict(extra="forbid")

    strategy: str | None = None
    """Name of a strategy, with options as on the command line (esc:window=4); None: the server's default."""
    paths: int | None = None
    """Maximum number of paths; None: the strategy's default, within the server's limit."""
    budget: BudgetBody | None = None
    task: str | None = None
    """Task whose instruction is added to the prompt and whose format reads the paths."""
    answers: str | None = None
    """Task whose answer format reads the paths for the vote, with the prompt unchanged; None: math."""
    seed: int | None = None
    """Equal seeds give equal paths. It takes precedence over the request's own `seed`."""
    thinking_budget: int | None = None
    """Maximum number of thinking tokens before the answer."""
    details: bool = False
    """The reply includes every path and the tree."""


class FunctionName(BaseModel):
    name: str


class ToolChoice(BaseModel):
    """The one function that must be called."""

    type: Literal["function"]
    function: FunctionName


class StreamOptions(BaseModel):
    include_usage: bool = False
    continuous_usage_stats: bool = False
    """Send the usage so far with every piece of text, for clients that stop early."""


class ChatRequest(SamplingOptions):
    """A chat completion request. Construct it with `parse`, whose errors name the field."""

    model: str
    messages: tuple[MessageBody, ...]
    tools: tuple[dict[str, JsonValue], ...] = Field(default=(), max_length=_MAX_TOOLS)
    tool_choice: str | ToolChoice | None = None
    """auto, none, required, or the function that must be called."""
    parallel_tool_calls: bool = True
    """A reply may hold several tool calls; if false, only the first one of each path counts."""
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_completion_tokens: int | None = None
    """OpenAI's newer name for `max_tokens`."""
    n: int = 1
    logprobs: bool = False
    top_logprobs: int = 0
    return_tokens_as_token_ids: bool = False
    """Name alternatives of log-probabilities `token_id:7`; no other name is available."""
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    """The last message opens the answer. None: if it is the assistant's."""
    chat_template_kwargs: dict[str, JsonValue] = Field(default_factory=dict)
    branchwise: StrategyOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _drop_null(cls, body: object) -> object:
        """Reject unsupported fields and remove those that are null."""
        if not isinstance(body, Mapping):
            raise ConfigError("body", "is not a JSON object", "send one chat completion request")
        reject_unsupported(body)
        return {name: value for name, value in body.items() if value is not None}

    @field_validator("tool_choice", mode="before")
    @classmethod
    def _check_tool_choice(cls, choice: object) -> object:
        function = choice.get("function") if isinstance(choice, dict) and choice.get("type") == "function" else None
        is_named = isinstance(function, dict) and isinstance(function.get("name"), str)
        require(
            is_named or choice in ("auto", "none", "required"),
            "tool_choice",
            f"is {shortened(choice)}",
            'use auto, none, required, or {"type": "function", "function": {"name": NAME}}',
        )
        return choice

    @model_validator(mode="after")
    def _check(self) -> "ChatRequest":
        require(bool(self.messages), "messages", "is empty", "send at least one message")
        require(self.n >= 1, "n", f"is {self.n}", "use at least 1")
        require(len(self.stop or ()) <= _MAX_STOPS, "stop", "has too many strings", f"use at most {_MAX_STOPS}")
        for index, tool in enumerate(self.tools):
            is_function = tool.get("type") == "function" and bool(_function_name(tool))
            require(is_function, f"tools.{index}", "is not a function with a name", "describe a function")
        self.tool_set.check()
        if self.must_call:
            require(bool(self.offered_tools), "tool_choice", "names a tool that is missing", "add it to tools")
        for name, value in self.chat_template_kwargs.items():
            is_known = name == "enable_thinking" and isinstance(value, bool)
            require(is_known, f"chat_template_kwargs.{name}", "is not supported", "use enable_thinking, true or false")
        _check_last_message(self)
        return self

    @classmethod
    def parse(cls, body: JsonValue) -> "ChatRequest":
        """Return the request in a JSON body. Raises ConfigError for the first invalid field."""
        try:
            json.dumps(body, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:  # JSON can represent it, but no tokenizer can encode it
            raise ConfigError("body", "has an unpaired surrogate", "send whole characters") from error
        try:
            return cls.model_validate(body)
        except ValidationError as error:
            first = first_field_error(error)
        if isinstance(first.cause, ConfigError):
            raise ConfigError(first.field or first.cause.field, first.cause.problem, first.cause.fix)
        if first.kind == "missing":
            raise ConfigError(first.field, "is missing", "add it")
        if first.kind == "extra_forbidden":
            raise ConfigError(first.field, "is unknown", "leave it out, or check its spelling")
        raise ConfigError(first.field, f"is {shortened(first.value)}", first.message)

    @property
    def served_model(self) -> str:
        """Return the name of the model, without a strategy after @."""
        return self.model.partition("@")[0]

    @property
    def strategy_options(self) -> StrategyOptions | None:
        """Return the key `branchwise`, with the strategy that `model` names after @; None for plain sampling.

        Raises ConfigError if both name a strategy.
        """
        _, at, strategy = self.model.partition("@")
        if not at:
            return self.branchwise
        options = self.branchwise or StrategyOptions()
        require(
            options.strategy is None,
            "branchwise.strategy",
            "is given together with the one in model",
            "leave one of them out",
        )
        return options.model_copy(update={"strategy": strategy})

    @property
    def thinking(self) -> bool | None:
        """Return the thinking switch of the chat template; None keeps its default."""
        value = self.chat_template_kwargs.get("enable_thinking")
        return value if isinstance(value, bool) else None

    @property
    def offered_tools(self) -> tuple[dict[str, JsonValue], ...]:
        """Return the tools that the model may call."""
        if isinstance(self.tool_choice, ToolChoice):
            return tuple(tool for tool in self.tools if _function_name(tool) == self.tool_choice.function.name)
        return () if self.tool_choice == "none" else self.tools

    @property
    def tool_set(self) -> ToolSet:
        """Return the tools whose calls are read from the text."""
        return ToolSet.of(self.offered_tools, parallel=self.parallel_tool_calls)

    @property
    def must_call(self) -> bool:
        """Return whether the answer must be a tool call."""
        return self.tool_choice == "required" or isinstance(self.tool_choice, ToolChoice)

    def prompt(self) -> Messages:
        """Return the chat as a prompt."""
        turns = [message.message() for message in self.messages]
        may_continue = self.continue_final_message is not False
        prompt = as_prompt(turns) if may_continue else Messages(turns=tuple(turns))
        return prompt.model_copy(update={"tools": self.offered_tools})

    def sampling(self, temperature: float) -> Sampling:
        """Return the sampling, with `temperature` unless the request sets one. Raises ConfigError."""
        defaults = Sampling(temperature=temperature, max_tokens=self.max_completion_tokens, logprobs=self.top_logprobs)
        return self.override(defaults)


def _function_name(tool: Mapping[str, JsonValue]) -> JsonValue:
    """Return the name of a tool's function; None if it has none."""
    function = tool.get("function")
    return function.get("name") if isinstance(function, dict) else None


def _check_last_message(request: ChatRequest) -> None:
    """Check that the fields about continuing the last message agree with its role."""
    last = request.messages[-1]
    is_assistant = last.role == "assistant"
    if request.continue_final_message:
        field = "continue_final_message"
        require(is_assistant, field, "is true, but the last message is not the assistant's", "leave it out")
        require(
            not request.add_generation_prompt,
            "add_generation_prompt",
            "is true together with continue_final_message",
            "set it to false",
        )
    is_continued = is_assistant and request.continue_final_message is not False
    if request.add_generation_prompt is False:
        require(is_continued, "add_generation_prompt", "is false, but no message is continued", "leave it out")
    if is_continued:
        field = f"messages.{len(request.messages) - 1}.tool_calls"
        require(not last.tool_calls, field, "have no results", "send a message with the role tool for each")
