"""The segment a branch is growing: from a backend's events to a path."""

from dataclasses import dataclass, field

from branchwise.backends.stream import Tokens
from branchwise.core.path import Path, StopReason, TopLogprob


@dataclass(slots=True)
class Segment:
    """The tokens and the text that came so far."""

    parent: Path
    key: int
    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    ends: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top: list[tuple[TopLogprob, ...]] = field(default_factory=list)
    count: int = 0  # tokens, also where their ids are not shown
    origin: int = 0  # length of the text when the request under way began: its `ends` count from there

    def add(self, event: Tokens) -> None:
        self.count += event.count
        self.token_ids.extend(event.token_ids)
        self.text += event.text
        self.ends.extend(self.origin + end for end in event.ends)
        self.logprobs.extend(event.logprobs or ())
        self.top.extend(event.top_logprobs or ())

    def drop_unspelled(self) -> int:
        """Forget the last tokens whose text was held back, to draw them again; how many there were."""
        kept = len(self.token_ids)
        while kept and kept <= len(self.ends) and self.ends[kept - 1] > len(self.text):
            kept -= 1
        dropped = len(self.token_ids) - kept
        if dropped:
            for row in (self.token_ids, self.ends, self.logprobs, self.top):
                del row[kept:]
            self.count -= dropped
            self.text = self.text[: self.ends[-1] if self.ends else 0]
        self.origin = len(self.text)
        return dropped

    def path(self, reason: StopReason | None, trimmed: str = "") -> Path:
        """The path so far; `trimmed` is what a stop cut off its text."""
        text, count = self.text + trimmed, len(self.token_ids) or self.count
        return Path(
            parent=self.parent,
            key=self.key,
            token_ids=tuple(self.token_ids),
            text=text,
            ends=tuple(min(end, len(text)) for end in self.ends),
            logprobs=tuple(self.logprobs) if len(self.logprobs) == count else None,
            top_logprobs=tuple(self.top) if self.top and len(self.top) == count else None,
            stop_reason=reason,
            shown=len(self.text) if reason is StopReason.STOP else None,
        )
