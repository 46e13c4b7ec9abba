"""A scripted backend that remembers what it was asked."""

from dataclasses import dataclass

import branchwise as bw
from branchwise.backends.base import ExtendRequest
from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.backends.stream import Extension


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for branches that grow from a prompt."""

    prompt: bw.Messages
    sampling: bw.Sampling
    keys: tuple[int, ...]


class Recording(ScriptedBackend):
    """Replies with the given texts in turn, for each prompt from the first on."""

    def __init__(self, *replies: str, scores: dict[str, float] | None = None) -> None:
        super().__init__({"": replies}, scores=scores)
        self.asked: list[Asked] = []

    def extend(self, request: ExtendRequest) -> Extension:
        prompt = request.path.root.messages
        assert prompt is not None
        self.asked.append(Asked(prompt, request.sampling, request.keys))
        return super().extend(request)

    @property
    def turns(self) -> list[list[tuple[str, str]]]:
        """The turns of each prompt asked, as role and content."""
        return [[(turn.role, turn.content) for turn in asked.prompt.turns] for asked in self.asked]
