"""Branches by text, over /v1/completions: the conversation as plain text.

For servers that close every turn of a chat.
"""

from branchwise.backends.base import ExtendRequest
from branchwise.backends.openai.continued_text import ContinuedText
from branchwise.backends.openai.endpoint import Endpoint, Json, StreamReader, raise_reported
from branchwise.backends.openai.responses import BranchChunk, Completion
from branchwise.core.messages import Messages
from branchwise.core.path import Path

_NAMES = {"system": "System", "user": "User", "assistant": "Assistant", "tool": "Tool"}


class TranscriptEndpoint(Endpoint):
    """Endpoint that continues text without a chat template."""

    path = "/v1/completions"
    optional = True
    turn_end = "\nUser:"

    def body(self, request: ExtendRequest, key: int) -> Json:
        messages = request.path.root.messages
        assert messages is not None, "a root has its messages"
        body = self.common_body(request, key)
        body["prompt"] = f"{transcript(messages)} {ContinuedText(request.path).sent}".rstrip()
        return body

    def drops_space(self, path: Path) -> bool:
        return ContinuedText(path).drops_space

    def reader(self, request: ExtendRequest) -> "TranscriptReader":
        return TranscriptReader(ContinuedText(request.path))

    def prompt_tokens(self, path: Path) -> None:
        return None


class TranscriptReader(StreamReader):
    """Reader of one streamed completion without token ids."""

    def __init__(self, continued: ContinuedText) -> None:
        self._continued = continued

    def read(self, data: bytes) -> BranchChunk:
        event = Completion.model_validate_json(data)
        raise_reported(event)
        if not event.choices:
            return BranchChunk(usage=event.usage)
        choice = event.choices[0]
        return BranchChunk(self._continued.read(choice.text), finish=choice.finish_reason, usage=event.usage)


def transcript(messages: Messages) -> str:
    """Return a conversation as plain text that ends where the assistant's turn begins."""
    turns = [f"{_NAMES[turn.role]}: {turn.content}\n\n" for turn in messages.turns]
    return "".join(turns) + "Assistant:"
