"""What servers answer: the parts of their JSON that are read. Whatever else there is, is ignored."""

from dataclasses import dataclass

from pydantic import BaseModel, Field, JsonValue


class Details(BaseModel):
    cached_tokens: int | None = None


class ToldUsage(BaseModel):
    """What a server says a request cost."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: Details | None = None

    @property
    def cached(self) -> int | None:
        """Input tokens it had computed before; None where it does not tell."""
        return None if self.prompt_tokens_details is None else self.prompt_tokens_details.cached_tokens


class ModelCard(BaseModel):
    """A model in a server's list; each server has a place of its own for the context."""

    id: str
    max_model_len: int | None = None
    context_length: int | None = None
    context_window: int | None = None
    meta: dict[str, JsonValue] | None = None

    @property
    def context(self) -> int | None:
        trained = (self.meta or {}).get("n_ctx_train")
        told = self.max_model_len or self.context_length or self.context_window
        return told or (trained if isinstance(trained, int) else None)


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


class Streamed(BaseModel):
    """What may come amid an answer, whatever it is an answer of."""

    error: JsonValue = None
    object: str | None = None
    message: JsonValue = None
    usage: ToldUsage | None = None

    @property
    def trouble(self) -> JsonValue:
        """What went wrong, in the server's words; None where nothing did."""
        return self.message if self.object == "error" else self.error


class Completion(Streamed):
    """A completion, or a piece of one."""

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
    def thought(self) -> str:
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


class ChatChunk(Streamed):
    choices: list[ChatChoice] = []


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of one branch, whichever way it came. Tokens and text need not end together."""

    text: str = ""
    token_ids: tuple[int, ...] = ()
    strings: tuple[str, ...] | None = None
    """What each token spells by itself, where the server tells."""
    logprobs: tuple[float, ...] | None = None
    top: tuple[dict[int, float], ...] | None = None
    """Alternatives to each token."""
    finish: str | None = None
    usage: ToldUsage | None = None

    @property
    def empty(self) -> bool:
        """Whether it brings nothing of the branch itself."""
        return not (self.text or self.token_ids or self.logprobs or self.finish)
