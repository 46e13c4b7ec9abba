"""A scripted backend that records the requests it receives."""

from dataclasses import dataclass

import branchwise as bw
from branchwise.backends.base import ExtendRequest
from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.backends.stream import Extension


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request for branches that continue a prompt."""

    prompt: bw.Messages
    sampling: bw.Sampling
    keys: tuple[int, ...]


class RecordingBackend(ScriptedBackend):
    """Replies to each prompt with the given texts in turn, starting with the first."""

    def __init__(self, *replies: str, scores: dict[str, float] | None = None) -> None:
        super().__init__({"": replies}, scores=scores)
        self.requests: list[RecordedRequest] = []

    def extend(self, request: ExtendRequest) -> Extension:
        prompt = request.path.root.messages
        assert prompt is not None
        self.requests.append(RecordedRequest(prompt, request.sampling, request.keys))
        return super().extend(request)

    @property
    def turns(self) -> list[list[tuple[str, str]]]:
        """The turns of each requested prompt, as role and content."""
        return [[(turn.role, turn.content) for turn in request.prompt.turns] for request in self.requests]
