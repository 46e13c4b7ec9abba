"""Results as OpenAI's chat completion objects and chunks.

Fields without a default are always sent; the others only where they are set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, JsonValue

from branchwise.chat.reasoning import parted
from branchwise.chat.responder import chosen, spoken
from branchwise.chat.tool_calls import Said, split_calls, tool_names
from branchwise.core.path import Path, StopReason
from branchwise.core.result import Outcome, Result
from branchwise.core.usage import Usage
from branchwise.serving.errors import error_body
from branchwise.serving.request import CallBody
from branchwise.serving.resolve import Inquiry

__all__ = ["ChatCompletionBody", "ChunkBody", "Heading", "choices", "details", "error_body", "usage_body"]

FinishReason = Literal["stop", "length", "tool_calls"]


class TopTokenBody(BaseModel):
    """An alternative, by its id."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenBody(BaseModel):
    """A token's log-probability in nats."""

    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[TopTokenBody]


class LogprobsBody(BaseModel):
    content: list[TokenBody]


class MessageBody(BaseModel):
    role: Literal["assistant"]
    content: str | None
    reasoning_content: str | None = None
    """What the model thought before."""
    tool_calls: list[CallBody] | None = None


class ChoiceBody(BaseModel):
    index: int
    message: MessageBody
    logprobs: LogprobsBody | None
    finish_reason: FinishReason


class PromptDetails(BaseModel):
    cached_tokens: int


class UsageBody(BaseModel):
    """`prompt_tokens` are the input of all requests to the model, `completion_tokens` what all paths sampled."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails | None = None
    """None while it is not known yet."""


class ChatCompletionBody(BaseModel):
    """The reply. `branchwise` has the answer, the votes, the outcome and the whole ledger."""

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
    tool_calls: list[CallBody] | None = None


class ChunkChoiceBody(BaseModel):
    index: int
    delta: DeltaBody
    logprobs: LogprobsBody | None
    finish_reason: FinishReason | None


class ChunkBody(BaseModel):
    """A piece of a reply."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoiceBody]
    usage: UsageBody | None = None
    branchwise: dict[str, JsonValue] | None = None


@dataclass(frozen=True, slots=True)
class Heading:
    """What a reply and all its chunks begin with."""

    id: str
    created: int
    """Unix time, seconds."""
    model: str
    """As it was asked for."""

    def reply(self, result: Result, inquiry: Inquiry, said: Sequence[ChoiceBody]) -> ChatCompletionBody:
        return ChatCompletionBody(
            id=self.id,
            object="chat.completion",
            created=self.created,
            model=self.model,
            choices=list(said),
            usage=usage_body(result.usage),
            branchwise=details(result, inquiry),
        )

    def chunk(self, choices: Sequence[ChunkChoiceBody], told: dict[str, JsonValue] | None = None) -> ChunkBody:
        """A chunk; `told` is its key `branchwise`."""
        head = ChunkBody(
            id=self.id, object="chat.completion.chunk", created=self.created, model=self.model, choices=list(choices)
        )
        if told is not None:
            head.branchwise = told
        return head

    def usage_chunk(self, usage: Usage) -> ChunkBody:
        """The last chunk, where the usage is asked for."""
        chunk = self.chunk(())
        chunk.usage = usage_body(usage)
        return chunk


_CUT = (Outcome.CANCELLED, Outcome.SECONDS_SPENT, Outcome.TOKENS_SPENT, Outcome.PATHS_SPENT)


def choices(result: Result, inquiry: Inquiry, logprobs: bool, grown: Mapping[int, str]) -> list[ChoiceBody]:
    """What is said: every path of plain sampling that did not fail, otherwise the chosen one.

    Where the run ended before a path did, the text that it has `grown`, by its number, stands for it.
    """
    if not inquiry.plain:
        return [choice(0, chosen(result), inquiry, logprobs, grown.get(0, "") if inquiry.follows else "")]
    ended = {branch.number: branch.path for branch in result.paths}
    cut = result.outcome in _CUT
    return [
        choice(number, ended.get(number), inquiry, logprobs, grown.get(number, ""))
        for number in range(inquiry.choices)
        if number in ended or cut
    ]


def choice(index: int, path: Path | None, inquiry: Inquiry, logprobs: bool, so_far: str) -> ChoiceBody:
    """One path as a choice; `so_far` is the text of one that did not end."""
    whole = so_far if path is None else path.answer_text[len(path.opening) :]
    text, thoughts = (parted if inquiry.plain else spoken)(whole, inquiry.task.thinking)
    content, calls = Said(text, ())
    if inquiry.messages.tools:
        content, calls = split_calls(text, tool_names(inquiry.messages.tools), "" if path is None else f"{path.key:x}")
    message = MessageBody(role="assistant", content=content or (None if calls else ""))
    if thoughts:
        message.reasoning_content = thoughts
    if calls:
        message.tool_calls = [CallBody.of(call) for call in calls]
    ended = path is not None and path.stop_reason in (StopReason.END, StopReason.STOP)
    reason: FinishReason = "tool_calls" if calls else "stop" if ended else "length"
    told = token_logprobs(path) if logprobs and path is not None else None
    return ChoiceBody(index=index, message=message, logprobs=told, finish_reason=reason)


def token_logprobs(path: Path) -> LogprobsBody | None:
    """The tokens that a path shows, each with its log-probability and its alternatives; None where they are unknown."""
    told = []
    *_, last = path.segments()
    for segment in path.segments():
        if segment.forced:
            continue
        if segment.logprobs is None or len(segment.ends) != len(segment.logprobs):
            return None
        shown = len(segment.text) if segment is not last or segment.shown is None else segment.shown
        start = 0
        for place, (end, logprob) in enumerate(zip(segment.ends, segment.logprobs, strict=True)):
            if start >= shown:
                break
            text, start = segment.text[start : min(end, shown)], end
            top = segment.top_logprobs[place] if segment.top_logprobs else ()
            others = [TopTokenBody(token=f"token_id:{each.token_id}", logprob=each.logprob, bytes=None) for each in top]
            told.append(TokenBody(token=text, logprob=logprob, bytes=list(text.encode()), top_logprobs=others))
    return LogprobsBody(content=told)


def details(result: Result, inquiry: Inquiry) -> dict[str, JsonValue]:
    """The key `branchwise` of a reply."""
    record = result.record(tokens=False)
    told: dict[str, JsonValue] = {"strategy": inquiry.name, "seed": inquiry.seed}
    if inquiry.plain:
        names = ["usage", "degraded", "errors"]
        if result.outcome is not Outcome.NO_ANSWER:  # nobody looked for one
            names += ["outcome", "advice"]
        return told | {name: record[name] for name in names}
    left_out = ("value",) if inquiry.details else ("value", "paths", "tree")
    return told | {name: value for name, value in record.items() if name not in left_out}


def usage_body(usage: Usage) -> UsageBody:
    return UsageBody(
        prompt_tokens=usage.prompt,
        completion_tokens=usage.sampled,
        total_tokens=usage.prompt + usage.sampled,
        prompt_tokens_details=PromptDetails(cached_tokens=usage.reused),
    )
