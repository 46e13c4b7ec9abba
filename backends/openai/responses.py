"""JSON that servers answer with: the fields that the backend reads. Other fields are ignored."""

from dataclasses import dataclass

from pydantic import BaseModel, Field, JsonValue


class PromptTokensDetails(BaseModel):
    cached_tokens: int | None = None


class ReportedUsage(BaseModel):
    """Usage of one request as the server reports it."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: PromptTokensDetails | None = None

    @property
    def cached(self) -> int | None:
        """Prompt tokens that came from the server's prefix cache; None if it does not report them."""
        return None if self.prompt_tokens_details is None else self.prompt_tokens_details.cached_tokens


class ModelCard(BaseModel):
    """A model in a server's list. Servers report its context length in different fields."""

    id: str
    max_model_len: int | None = None
    context_length: int | None = None
    context_window: int | None = None
    meta: dict[str, JsonValue] | None = None
    others: list[str] = []
    """The models that the server lists, if it does not list this one."""

    @property
    def context(self) -> int | None:
        """Context length in tokens; None if the server does not report it."""
        trained = (self.meta or {}).get("n_ctx_train")
        reported = self.max_model_len or self.context_length or self.context_window
        return reported or (trained if isinstance(trained, int) else None)


class ModelCards(BaseModel):
    data: list[ModelCard]


class Tokenized(BaseModel):
    tokens: list[int] = Field(min_length=0)
    max_model_len: int | None = None


class Detokenized(BaseModel):
    prompt: str


# Completions: token ids in, token ids out.


class CompletionLogprobs(BaseModel):
    tokens: list[str] = []
    token_logprobs: list[float | None] = []
    top_logprobs: list[dict[str, float] | None] | None = None


class PromptLogprob(BaseModel):
    logprob: float


class CompletionChoice(BaseModel):
    text: str = ""
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None
    logprobs: CompletionLogprobs | None = None
    prompt_logprobs: list[dict[int, PromptLogprob] | None] | None = None
    finish_reason: str | None = None


class StreamEvent(BaseModel):
    """Fields of an event of any kind of stream: an error or the usage."""

    error: JsonValue = None
    object: str | None = None
    message: JsonValue = None
    usage: ReportedUsage | None = None

    @property
    def failure(self) -> JsonValue:
        """The error as the server reports it, or None."""
        return self.message if self.object == "error" else self.error


class Completion(StreamEvent):
    """A completion, or one event of a streamed completion."""

    choices: list[CompletionChoice] = []


# Chat completions.


class CalledFunction(BaseModel):
    name: str | None = None
    arguments: str | None = None


class CallDelta(BaseModel):
    index: int = 0
    function: CalledFunction | None = None


class Delta(BaseModel):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[CallDelta] | None = None

    @property
    def thoughts(self) -> str:
        """Reasoning that the server separated from the content; servers name the field differently."""
        return self.reasoning_content or self.reasoning or ""


class ChatLogprob(BaseModel):
    token: str = ""
    logprob: float


class ChatLogprobs(BaseModel):
    content: list[ChatLogprob] | None = None


class ChatChoice(BaseModel):
    delta: Delta = Delta()
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None


class ChatChunk(StreamEvent):
    choices: list[ChatChoice] = []


@dataclass(frozen=True, slots=True)
class BranchChunk:
    """New tokens and text of one branch, from either endpoint. Tokens and text need not end at the same place."""

    text: str = ""
    token_ids: tuple[int, ...] = ()
    strings: tuple[str, ...] | None = None
    """[tokens] the text of each token decoded alone; None if the server does not report it."""
    logprobs: tuple[float, ...] | None = None
    top: tuple[dict[int, float], ...] | None = None
    """[tokens] the alternatives to each token: token id to log-probability."""
    finish: str | None = None
    usage: ReportedUsage | None = None

    @property
    def empty(self) -> bool:
        """True for a chunk without tokens, text and end of the branch."""
        return not (self.text or self.token_ids or self.logprobs or self.finish)
