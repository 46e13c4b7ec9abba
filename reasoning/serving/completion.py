"""OpenAI's chat completion and chunk objects, with the key `branchwise`.

Fields without a default are always sent, the others only if they are set. The models of the `openai` package are not
used: importing it takes a second, and its messages, choices and completions would all need subclasses for
`reasoning_content` and `branchwise`.
"""

from typing import Literal

from pydantic import BaseModel, JsonValue

from branchwise.core.message_json import ToolCallBody

FinishReason = Literal["stop", "length", "tool_calls"]


class TopTokenBody(BaseModel):
    """An alternative token, named by its id."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenBody(BaseModel):
    """The log-probability of a token, in nats."""

    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[TopTokenBody]


class LogprobsBody(BaseModel):
    content: list[TokenBody]


class AssistantBody(BaseModel):
    """The assistant's message."""

    role: Literal["assistant"]
    content: str | None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallBody] | None = None


class ChoiceBody(BaseModel):
    index: int
    message: AssistantBody
    logprobs: LogprobsBody | None
    finish_reason: FinishReason


class PromptDetails(BaseModel):
    cached_tokens: int


class UsageBody(BaseModel):
    """Tokens of all paths: `prompt_tokens` is the input of all model requests, `completion_tokens` the output."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails | None = None
    """None while it is unknown."""


class ChatCompletionBody(BaseModel):
    """The whole reply. `branchwise` has the answer, the votes, the outcome and the usage."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChoiceBody]
    usage: UsageBody
    branchwise: dict[str, JsonValue]

    def json_text(self) -> str:
        return self.model_dump_json(exclude_unset=True)


class DeltaBody(BaseModel):
    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallBody] | None = None


class ChunkChoiceBody(BaseModel):
    index: int
    delta: DeltaBody
    logprobs: LogprobsBody | None
    finish_reason: FinishReason | None


class ChunkBody(BaseModel):
    """A part of a streamed reply."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoiceBody]
    usage: UsageBody | None = None
    branchwise: dict[str, JsonValue] | None = None

    def event(self) -> str:
        """Return the chunk as a server-sent event."""
        return f"data: {self.model_dump_json(exclude_unset=True)}\n\n"
