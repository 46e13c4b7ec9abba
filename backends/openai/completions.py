"""Branches by token ids, over /v1/completions."""

from collections.abc import Mapping

from branchwise.backends.base import ExtendRequest
from branchwise.backends.openai.endpoint import Endpoint, InvalidStreamError, Json, StreamReader, raise_reported
from branchwise.backends.openai.responses import BranchChunk, Completion, CompletionChoice
from branchwise.core.path import Path

_MISSING_LOGPROB = -9999.0
"""Nats; stands for a log-probability that the server leaves out, as vLLM does for minus infinity."""


class CompletionsEndpoint(Endpoint):
    """Endpoint that takes the prompt and returns the samples as token ids."""

    path = "/v1/completions"
    optional = True

    def body(self, request: ExtendRequest, key: int) -> Json:
        body = self.common_body(request, key)
        body["prompt"] = list(request.path.all_token_ids())
        body["return_token_ids"] = True
        if self.features.logprobs:
            alternatives = request.sampling.logprobs
            body["logprobs"] = alternatives
            if alternatives:  # alternatives are then named by token id instead of text
                body["return_tokens_as_token_ids"] = True
        return body

    def reader(self, request: ExtendRequest) -> "CompletionsReader":
        return CompletionsReader(request.path.all_token_ids(), by_id=bool(request.sampling.logprobs))

    def prompt_tokens(self, path: Path) -> int:
        return len(path.all_token_ids())


class CompletionsReader(StreamReader):
    """Reader of one streamed completion. `by_id`: tokens in log-probabilities are named by id."""

    def __init__(self, prompt: tuple[int, ...], *, by_id: bool) -> None:
        self._prompt = list(prompt)
        self._by_id = by_id

    def read(self, data: bytes) -> BranchChunk:
        event = Completion.model_validate_json(data)
        raise_reported(event)
        if not event.choices:
            return BranchChunk(usage=event.usage)
        choice = event.choices[0]
        if choice.prompt_token_ids is not None and choice.prompt_token_ids != self._prompt:
            raise InvalidStreamError("answers another prompt")
        ids = choice.token_ids or []
        if choice.text and not ids and choice.finish_reason is None:
            raise InvalidStreamError("sends text without its tokens")
        if any(token < 0 for token in ids):
            raise InvalidStreamError("sends an invalid token id")
        return self._chunk(choice, event)

    def _chunk(self, choice: CompletionChoice, event: Completion) -> BranchChunk:
        ids, found = choice.token_ids or [], choice.logprobs
        logprobs = strings = top = None
        if found is not None and found.token_logprobs:
            if not len(found.tokens) == len(found.token_logprobs) == len(ids):
                raise InvalidStreamError("sends unequal numbers of tokens and log-probabilities")
            logprobs = tuple(_MISSING_LOGPROB if value is None else value for value in found.token_logprobs)
            strings = None if self._by_id else tuple(found.tokens)
            if self._by_id and found.top_logprobs is not None:
                top = tuple(map(_by_token_id, found.top_logprobs))
        return BranchChunk(
            text=choice.text,
            token_ids=tuple(ids),
            strings=strings,
            logprobs=logprobs,
            top=top,
            finish=choice.finish_reason,
            usage=event.usage,
        )


def _by_token_id(row: Mapping[str, float] | None) -> dict[int, float]:
    """Return the row with its names, such as `token_id:7`, as integers."""
    return {int(name.removeprefix("token_id:")): logprob for name, logprob in (row or {}).items()}
