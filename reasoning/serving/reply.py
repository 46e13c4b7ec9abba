"""Results of runs as chat completions: choices, finish reasons, log-probabilities, usage and details."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from branchwise.chat.reasoning import split_marked_reasoning, split_reasoning
from branchwise.chat.reply import sampled_text, shown_path
from branchwise.chat.tool_calls import SplitCalls, split_calls
from branchwise.core.message_json import ToolCallBody
from branchwise.core.path import Path, StopReason
from branchwise.core.result import Outcome, Result
from branchwise.core.usage import Usage
from branchwise.serving.completion import (
    AssistantBody,
    ChatCompletionBody,
    ChoiceBody,
    ChunkBody,
    ChunkChoiceBody,
    FinishReason,
    LogprobsBody,
    PromptDetails,
    TokenBody,
    TopTokenBody,
    UsageBody,
)
from branchwise.serving.resolve import ResolvedRequest


@dataclass(frozen=True, slots=True)
class ReplyHeader:
    """The fields that a reply and all its chunks share."""

    id: str
    created: int
    """Unix time in seconds."""
    model: str
    """The model as the request names it, strategy included."""

    def completion(self, result: Result, request: ResolvedRequest, choices: Sequence[ChoiceBody]) -> ChatCompletionBody:
        """Return the whole reply."""
        return ChatCompletionBody(
            id=self.id,
            object="chat.completion",
            created=self.created,
            model=self.model,
            choices=list(choices),
            usage=usage_body(result.usage),
            branchwise=details(result, request),
        )

    def chunk(self, choices: Sequence[ChunkChoiceBody], branchwise: dict[str, JsonValue] | None = None) -> ChunkBody:
        """Return a chunk; the key `branchwise` is sent only if it is given."""
        chunk = ChunkBody(
            id=self.id, object="chat.completion.chunk", created=self.created, model=self.model, choices=list(choices)
        )
        if branchwise is not None:
            chunk.branchwise = branchwise
        return chunk

    def usage_chunk(self, usage: Usage) -> ChunkBody:
        """Return the last chunk of a stream that includes the usage."""
        chunk = self.chunk(())
        chunk.usage = usage_body(usage)
        return chunk


_ENDED_EARLY = (Outcome.CANCELLED, Outcome.SECONDS_SPENT, Outcome.TOKENS_SPENT, Outcome.PATHS_SPENT)


def choices(result: Result, request: ResolvedRequest, partial_texts: Mapping[int, str]) -> list[ChoiceBody]:
    """Return the choices: every path of plain sampling that did not fail, otherwise the shown path.

    If the run ended before a path did, its entry of `partial_texts` (by branch number) stands for the path.
    """
    if not request.is_plain:
        partial = partial_texts.get(0, "") if request.streams_text else ""
        return [choice(0, shown_path(result), request, partial)]
    finished = {branch.number: branch.path for branch in result.paths}
    return [
        choice(number, finished.get(number), request, partial_texts.get(number, ""))
        for number in range(request.choice_count)
        if number in finished or result.outcome in _ENDED_EARLY
    ]


def choice(index: int, path: Path | None, request: ResolvedRequest, partial_text: str) -> ChoiceBody:
    """Return one path as a choice; without a path, `partial_text` is its text."""
    sampled = partial_text if path is None else sampled_text(path)
    split = split_marked_reasoning if request.is_plain else split_reasoning
    text, reasoning = split(sampled, request.task.thinking)
    content, calls = SplitCalls(text, ())
    if request.messages.tools:
        salt = "" if path is None else f"{path.key:x}"
        content, calls = split_calls(text, request.tools, salt)
    message = AssistantBody(role="assistant", content=content or (None if calls else ""))
    if reasoning:
        message.reasoning_content = reasoning
    if calls:
        message.tool_calls = [ToolCallBody.of(call) for call in calls]
    return ChoiceBody(
        index=index,
        message=message,
        logprobs=token_logprobs(path) if request.logprobs and path is not None else None,
        finish_reason="tool_calls" if calls else _finish_reason(path),
    )


def _finish_reason(path: Path | None) -> FinishReason:
    return "stop" if path is not None and path.stop_reason in (StopReason.END, StopReason.STOP) else "length"


def token_logprobs(path: Path) -> LogprobsBody | None:
    """Return the log-probability and the alternatives of every shown token; None if they are unknown."""
    bodies = []
    *_, last = path.segments()
    for segment in path.segments():
        if segment.forced:
            continue
        if segment.logprobs is None or len(segment.ends) != len(segment.logprobs):
            return None
        shown_chars = len(segment.text) if segment is not last or segment.shown is None else segment.shown
        start = 0
        for index, (end, logprob) in enumerate(zip(segment.ends, segment.logprobs, strict=True)):
            if start >= shown_chars:
                break
            text = segment.text[start : min(end, shown_chars)]
            start = end
            top = segment.top_logprobs[index] if segment.top_logprobs else ()
            others = [TopTokenBody(token=f"token_id:{each.token_id}", logprob=each.logprob, bytes=None) for each in top]
            bodies.append(TokenBody(token=text, logprob=logprob, bytes=list(text.encode()), top_logprobs=others))
    return LogprobsBody(content=bodies)


def details(result: Result, request: ResolvedRequest) -> dict[str, JsonValue]:
    """Return the key `branchwise` of a reply."""
    record = result.record(tokens=False)
    body: dict[str, JsonValue] = {"strategy": request.strategy_name, "seed": request.seed}
    if request.is_plain:
        names = ["usage", "degraded", "errors"]
        if result.outcome is not Outcome.COMPLETE:
            names += ["outcome", "advice"]
        return body | {name: record[name] for name in names}
    omitted = ("value",) if request.has_details else ("value", "paths", "tree")
    return body | {name: value for name, value in record.items() if name not in omitted}


def usage_body(usage: Usage) -> UsageBody:
    """Return the usage under OpenAI's names."""
    return UsageBody(
        prompt_tokens=usage.prompt,
        completion_tokens=usage.sampled,
        total_tokens=usage.prompt + usage.sampled,
        prompt_tokens_details=PromptDetails(cached_tokens=usage.reused),
    )
