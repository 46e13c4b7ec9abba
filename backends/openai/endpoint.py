"""Endpoints that sample a branch. completions.py implements the one for tokens, chat.py the one for text."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from pydantic import JsonValue

from branchwise.backends.base import ExtendRequest
from branchwise.backends.openai.responses import BranchChunk, StreamEvent
from branchwise.backends.openai.server_features import ServerFeatures
from branchwise.core.keys import choose
from branchwise.core.path import Path

Json = dict[str, JsonValue]


class StreamedError(Exception):
    """An error that the server reports inside a stream."""

    def __init__(self, reported: JsonValue) -> None:
        super().__init__(reported)
        self.reported = reported


class InvalidStreamError(Exception):
    """A stream that contradicts its request or itself."""


class RestartedTurnError(InvalidStreamError):
    """A stream that begins the assistant's turn again instead of continuing it."""


class StreamReader(ABC):
    """Reader of one streamed response."""

    @abstractmethod
    def read(self, data: bytes) -> BranchChunk:
        """Return the chunk in an event. Raises ValueError for invalid JSON, StreamedError, InvalidStreamError."""


class Endpoint(ABC):
    """An address that samples one branch, the body of its requests and the reader of its responses."""

    path: str
    """Path of the URL."""
    optional: bool = False
    """True if servers need not have it."""
    turn_end: str = ""
    """Text that ends the assistant's turn, if the server does not end it."""

    def __init__(self, features: ServerFeatures, extra_body: Mapping[str, JsonValue]) -> None:
        self.features = features
        self._extra_body = extra_body

    @abstractmethod
    def body(self, request: ExtendRequest, key: int) -> Json:
        """Return the body of the request for one branch."""

    @abstractmethod
    def reader(self, request: ExtendRequest) -> StreamReader:
        """Return a reader for the response."""

    def drops_space(self, path: Path) -> bool:
        """Return True if white space at the end of `path` is not sent. The reader then drops it from the response, and
        searches for stop strings, as the server could find one in that space."""
        return False

    @abstractmethod
    def prompt_tokens(self, path: Path) -> int | None:
        """Return the number of prompt tokens of a request from `path`, or None if only the server knows it."""

    def common_body(self, request: ExtendRequest, key: int) -> Json:
        """Return the fields that both endpoints share."""
        features, sampling = self.features, request.sampling
        body: Json = {"model": features.model, "stream": True}
        if features.temperature:
            body["temperature"] = sampling.temperature
        if sampling.max_tokens is not None:
            body[features.max_tokens_field] = sampling.max_tokens
        if sampling.top_p < 1:
            body["top_p"] = sampling.top_p
        if sampling.top_k:
            body["top_k"] = sampling.top_k
        if sampling.min_p:
            body["min_p"] = sampling.min_p
        if features.seeds:
            # A continued sample needs other noise than its beginning.
            body["seed"] = choose(key, "seed", len(request.path.whole_text), 1 << 31)
        if features.usage:
            body["stream_options"] = {"include_usage": True}
            if features.running_usage:
                body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
        if sampling.stop and features.includes_stop and not self.drops_space(request.path):
            body["stop"] = list(sampling.stop)
            body["include_stop_str_in_output"] = True
        body.update(self._extra_body)
        return body


def raise_reported(event: StreamEvent) -> None:
    """Raise StreamedError if an event reports an error."""
    if event.failure is not None:
        raise StreamedError(event.failure)
