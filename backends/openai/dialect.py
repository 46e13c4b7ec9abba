"""The two ways to ask a server for one branch: by tokens (completions) or by text (chat completions)."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from pydantic import JsonValue

from branchwise.backends.base import ExtendRequest
from branchwise.backends.openai.features import Features
from branchwise.backends.openai.wire import Completion, CompletionChoice, Piece, Streamed
from branchwise.core.keys import choose
from branchwise.core.path import Path

Json = dict[str, JsonValue]


class TroubleError(Exception):
    """The server told of an error amid its answer."""

    def __init__(self, told: JsonValue) -> None:
        super().__init__(told)
        self.told = told


class WrongAnswerError(Exception):
    """An answer that contradicts its own request, or itself."""


class Reader(ABC):
    """Reads one answer piece by piece."""

    @abstractmethod
    def read(self, data: bytes) -> Piece:
        """The piece an event holds. Raises ValueError for what can't be read, TroubleError, WrongAnswerError."""


class Dialect(ABC):
    """How branches are asked for, and how what comes is read."""

    path: str
    """Where on the server."""

    def __init__(self, features: Features, extra: Mapping[str, JsonValue]) -> None:
        self.features = features
        self._extra = extra

    @abstractmethod
    def body(self, request: ExtendRequest, key: int) -> Json:
        """The request for one branch."""

    @abstractmethod
    def reader(self, request: ExtendRequest) -> Reader:
        """A reader for its answer."""

    @abstractmethod
    def given(self, path: Path) -> int | None:
        """How many tokens a request from `path` has; None where there is no telling."""

    def common(self, request: ExtendRequest, key: int) -> Json:
        """What both dialects send."""
        features, sampling = self.features, request.sampling
        body: Json = {"model": features.model, "stream": True, "temperature": sampling.temperature}
        if sampling.max_tokens is not None:
            body[features.limit] = sampling.max_tokens
        if sampling.top_p < 1:
            body["top_p"] = sampling.top_p
        if sampling.top_k:
            body["top_k"] = sampling.top_k
        if sampling.min_p:
            body["min_p"] = sampling.min_p
        if features.seeds:
            # A sample that goes on must not see the noise it began with again.
            body["seed"] = choose(key, "seed", len(request.path.whole_text), 1 << 31)
        if features.usage:
            body["stream_options"] = {"include_usage": True}
            if features.running_usage:
                body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
        if sampling.stop and features.stops_shown:
            body["stop"] = list(sampling.stop)
            body["include_stop_str_in_output"] = True
        body.update(self._extra)
        return body


class TokenDialect(Dialect):
    """Prompts and answers are token ids, over /v1/completions."""

    path = "/v1/completions"

    def body(self, request: ExtendRequest, key: int) -> Json:
        body = self.common(request, key)
        body["prompt"] = list(request.path.all_token_ids())
        body["return_token_ids"] = True
        if self.features.logprobs:
            alternatives = request.sampling.logprobs
            body["logprobs"] = alternatives
            if alternatives:  # their ids, in place of what they spell
                body["return_tokens_as_token_ids"] = True
        return body

    def reader(self, request: ExtendRequest) -> "TokenReader":
        return TokenReader(request.path.all_token_ids(), named=bool(request.sampling.logprobs))

    def given(self, path: Path) -> int:
        return len(path.all_token_ids())


class TokenReader(Reader):
    def __init__(self, prompt: tuple[int, ...], named: bool) -> None:
        self._prompt = list(prompt)
        self._named = named

    def read(self, data: bytes) -> Piece:
        answer = Completion.model_validate_json(data)
        check(answer)
        if not answer.choices:
            return Piece(usage=answer.usage)
        choice = answer.choices[0]
        if choice.prompt_token_ids is not None and choice.prompt_token_ids != self._prompt:
            raise WrongAnswerError("answers another prompt")
        ids = choice.token_ids or []
        if choice.text and not ids and choice.finish_reason is None:
            raise WrongAnswerError("sends text without its tokens")
        if any(token < 0 for token in ids):
            raise WrongAnswerError("sends a token that is none")
        return self._piece(choice, answer)

    def _piece(self, choice: CompletionChoice, answer: Completion) -> Piece:
        ids, found = choice.token_ids or [], choice.logprobs
        logprobs = strings = top = None
        if found is not None and found.token_logprobs:
            if not len(found.tokens) == len(found.token_logprobs) == len(ids):
                raise WrongAnswerError("sends other tokens than log-probabilities")
            logprobs = tuple(-9999.0 if value is None else value for value in found.token_logprobs)
            strings = None if self._named else tuple(found.tokens)
            if self._named and found.top_logprobs is not None:
                top = tuple(map(_by_id, found.top_logprobs))
        return Piece(choice.text, tuple(ids), strings, logprobs, top, choice.finish_reason, answer.usage)


def _by_id(row: Mapping[str, float] | None) -> dict[int, float]:
    """A row whose tokens are named as token_id:7."""
    return {int(name.removeprefix("token_id:")): logprob for name, logprob in (row or {}).items()}


def check(answer: Streamed) -> None:
    """Raises TroubleError where an event is an error."""
    if answer.trouble is not None:
        raise TroubleError(answer.trouble)
