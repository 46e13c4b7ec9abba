"""The body of a request: OpenAI's chat completion, and the key `branchwise`."""

import json
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError, field_validator, model_validator

from branchwise.chat.transcription import as_prompt
from branchwise.core.errors import ConfigError, require
from branchwise.core.messages import Message, Messages, ToolCall
from branchwise.core.sampling import Sampling
from branchwise.serving.unsupported import check_supported, shortened

_MOST_STOPS = 64


class FunctionBody(BaseModel):
    """The function a model calls; `arguments` is JSON text."""

    name: str
    arguments: str


class CallBody(BaseModel):
    """A call of a tool. `index` is its place among a message's calls, in streams alone."""

    id: str
    type: Literal["function"]
    function: FunctionBody
    index: int | None = None

    @classmethod
    def of(cls, call: ToolCall) -> "CallBody":
        return cls(id=call.id, type="function", function=FunctionBody(name=call.name, arguments=call.arguments))


class Turn(BaseModel):
    """One message of the chat. Its thoughts, if it has any, are left out, as chat templates do."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str = ""
    tool_calls: tuple[CallBody, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None

    @field_validator("content", mode="before")
    @classmethod
    def _text(cls, content: object) -> object:
        """Text, or text in parts."""
        if content is None:
            return ""
        if not isinstance(content, list):
            return content
        texts = []
        for part in content:
            kind = part.get("type") if isinstance(part, dict) else None
            text = part.get("text") if isinstance(part, dict) else None
            known = kind == "text" and isinstance(text, str)
            require(
                known, "content", f"holds a part of type {shortened(kind)}", "send text: this model reads nothing else"
            )
            texts.append(str(text))
        return "\n".join(texts)

    @field_validator("tool_calls", mode="before")
    @classmethod
    def _calls(cls, calls: object) -> object:
        return () if calls is None else calls

    def message(self) -> Message:
        return Message(
            role="system" if self.role == "developer" else self.role,
            content=self.content,
            tool_calls=tuple(
                ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
                for call in self.tool_calls
            ),
            tool_call_id=self.tool_call_id,
            name=self.name,
        )


class BudgetBody(BaseModel):
    """What the question may spend; the server's own limits hold besides."""

    model_config = ConfigDict(extra="forbid")

    tokens: int | None = None
    seconds: float | None = None


class Strategised(BaseModel):
    """The key `branchwise`: the question is answered by a strategy, over several paths."""

    model_config = ConfigDict(extra="forbid")

    strategy: str | None = None
    """A strategy's name, with options as on the command line (esc:window=4); None: the server's default."""
    paths: int = 8
    """Most paths for the question."""
    budget: BudgetBody | None = None
    task: str | None = None
    """A task in full: its instruction is added to the prompt, and its format reads the paths."""
    answers: str | None = None
    """The task whose answer format reads the paths for the vote, the prompt left as it is; None: math."""
    seed: int | None = None
    """Equal seeds give equal paths. It goes before the request's own `seed`."""
    thinking_budget: int | None = None
    """Most tokens of thinking before the answer."""
    details: bool = False
    """Whether the reply has every path and the tree of them."""


class FunctionName(BaseModel):
    name: str


class ToolChoice(BaseModel):
    """The one function that must be called."""

    type: Literal["function"]
    function: FunctionName


class StreamOptions(BaseModel):
    include_usage: bool = False
    continuous_usage_stats: bool = False
    """The usage so far with every piece of text: whoever stops listening knows what was spent."""


class ChatRequest(BaseModel):
    """A chat completion that is asked for.

    Make it with `read`: its errors name the field. Keys that can't be honoured are refused by name.
    """

    model: str
    messages: tuple[Turn, ...]
    tools: tuple[dict[str, JsonValue], ...] = ()
    tool_choice: str | ToolChoice | None = None
    """auto, none, required, or the one that must be called."""
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    n: int = 1
    logprobs: bool = False
    top_logprobs: int = 0
    return_tokens_as_token_ids: bool = False
    """Alternatives among the log-probabilities are told as `token_id:7`: they have no other name here."""
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    """The last message is the beginning of the answer. None: where it is the assistant's."""
    chat_template_kwargs: dict[str, JsonValue] = {}
    branchwise: Strategised | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, body: object) -> object:
        """Name what can't be honoured; leave out what is null."""
        if not isinstance(body, Mapping):
            raise ConfigError("body", "is no JSON object", "send one chat completion request")
        check_supported(body)
        kept = {name: value for name, value in body.items() if value is not None}
        if isinstance(stop := kept.get("stop"), str):
            kept["stop"] = (stop,)
        return kept

    @field_validator("tool_choice", mode="before")
    @classmethod
    def _choice(cls, choice: object) -> object:
        function = choice.get("function") if isinstance(choice, dict) and choice.get("type") == "function" else None
        named = isinstance(function, dict) and isinstance(function.get("name"), str)
        require(
            named or choice in ("auto", "none", "required"),
            "tool_choice", f"is {shortened(choice)}",
            'use auto, none, required, or {"type": "function", "function": {"name": NAME}}',
        )  # fmt: skip
        return choice

    @model_validator(mode="after")
    def _check(self) -> "ChatRequest":
        require(bool(self.messages), "messages", "is empty", "send at least one message")
        require(self.n >= 1, "n", f"is {self.n}", "use at least 1")
        require(len(self.stop) <= _MOST_STOPS, "stop", "has too many texts", f"use at most {_MOST_STOPS}")
        for place, tool in enumerate(self.tools):
            known = tool.get("type") == "function" and bool(_name(tool))
            require(known, f"tools.{place}", "is no function with a name", "describe a function")
        if self.must_call:
            require(bool(self.offered_tools), "tool_choice", "asks for a tool that is not there", "add it to tools")
        for name, value in self.chat_template_kwargs.items():
            known = name == "enable_thinking" and isinstance(value, bool)
            require(known, f"chat_template_kwargs.{name}", "can't be honoured", "use enable_thinking, true or false")
        _check_end(self)
        return self

    @classmethod
    def read(cls, body: JsonValue) -> "ChatRequest":
        """The request in a JSON body. Raises ConfigError about the first field that is wrong."""
        try:
            json.dumps(body, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:  # JSON can spell it, and no tokenizer reads it
            raise ConfigError("body", "holds half a character (a surrogate alone)", "send whole characters") from error
        try:
            return cls.model_validate(body)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, ConfigError):
            raise ConfigError(field or cause.field, cause.problem, cause.fix)
        if first["type"] == "missing":
            raise ConfigError(field, "is missing", "add it")
        if first["type"] == "extra_forbidden":
            raise ConfigError(field, "is unknown", "leave it out, or look how it is spelled")
        raise ConfigError(field, f"is {shortened(first['input'])}", first["msg"])

    @property
    def served_model(self) -> str:
        """The model's own name: `model` without a strategy after @."""
        return self.model.partition("@")[0]

    @property
    def strategised(self) -> Strategised | None:
        """The key, or what `model` says after @; None for plain sampling. Raises ConfigError where both name a
        strategy."""
        _, at, spec = self.model.partition("@")
        if not at:
            return self.branchwise
        key = self.branchwise or Strategised()
        require(
            key.strategy is None, "branchwise.strategy", "is given beside the one in model", "leave one of them out"
        )
        return key.model_copy(update={"strategy": spec})

    @property
    def thinking(self) -> bool | None:
        """The chat template's switch."""
        value = self.chat_template_kwargs.get("enable_thinking")
        return value if isinstance(value, bool) else None

    @property
    def offered_tools(self) -> tuple[dict[str, JsonValue], ...]:
        """The tools that the model may call."""
        if isinstance(self.tool_choice, ToolChoice):
            return tuple(tool for tool in self.tools if _name(tool) == self.tool_choice.function.name)
        return () if self.tool_choice == "none" else self.tools

    @property
    def must_call(self) -> bool:
        """Whether an answer without the call of a tool is none."""
        return self.tool_choice == "required" or isinstance(self.tool_choice, ToolChoice)

    def prompt(self) -> Messages:
        """The chat as a prompt."""
        turns = [turn.message() for turn in self.messages]
        continued = self.continue_final_message is not False
        prompt = as_prompt(turns) if continued else Messages(turns=tuple(turns))
        return prompt.model_copy(update={"tools": self.offered_tools})

    def sampling(self, temperature: float) -> Sampling:
        """How paths are drawn, at `temperature` where the request says nothing. Raises ConfigError."""
        usual = Sampling()
        return Sampling(
            temperature=temperature if self.temperature is None else self.temperature,
            top_p=usual.top_p if self.top_p is None else self.top_p,
            top_k=usual.top_k if self.top_k is None else max(0, self.top_k),  # -1 is off elsewhere
            min_p=usual.min_p if self.min_p is None else self.min_p,
            max_tokens=self.max_completion_tokens if self.max_tokens is None else self.max_tokens,
            stop=self.stop,
            logprobs=self.top_logprobs,
        )


def _name(tool: Mapping[str, JsonValue]) -> JsonValue:
    """The name of a function; None where it has none."""
    function = tool.get("function")
    return function.get("name") if isinstance(function, dict) else None


def _check_end(request: ChatRequest) -> None:
    """How the chat ends decides whether its last message is continued."""
    last = request.messages[-1]
    says, continues, opens = "continue_final_message", request.continue_final_message, request.add_generation_prompt
    if continues:
        require(last.role == "assistant", says, "is true, but the last message is not the assistant's", "leave it out")
        require(not opens, "add_generation_prompt", "goes not with continue_final_message", "set it to false")
    if opens is False:
        continued = last.role == "assistant" and continues is not False
        require(continued, "add_generation_prompt", "is false, and no message is continued", "leave it out")
    if last.role == "assistant" and continues is not False:
        place = f"messages.{len(request.messages) - 1}.tool_calls"
        require(not last.tool_calls, place, "have no results", "send a message with the role tool for each")
