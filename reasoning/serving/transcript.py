"""What a run has said so far."""

import asyncio
from dataclasses import dataclass, field

from pydantic import JsonValue

from branchwise.driver import BranchEnded, BranchGrew, BranchStarted, RunEvent, Standing
from branchwise.strategies.strategy import Decision


@dataclass(slots=True)
class Transcript:
    """Watches a run in its own event loop. With `keeps`, the text of every branch is kept."""

    keeps: bool
    texts: dict[int, list[str]] = field(default_factory=dict)
    """By branch."""
    started: int = 0
    ended: int = 0
    prompt: int | None = 0
    """Input tokens; None where the backend shows none."""
    sampled: int = 0
    """Tokens."""
    decision: Decision | None = None
    standings: bool = True
    """Whether anybody asks how things stand."""
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """A branch was handed to the model."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, event: RunEvent) -> None:
        match event:
            case BranchStarted(action=action):
                self.started += 1
                given = len(action.path.all_token_ids())
                self.prompt = None if self.prompt is None or not given else self.prompt + given
                self.begun.set()
            case BranchGrew(branch=branch, tokens=tokens, text=text):
                self.sampled += tokens
                if self.keeps and text:
                    self.texts.setdefault(branch, []).append(text)
            case BranchEnded():
                self.ended += 1
            case Standing(decision=decision):
                self.decision = decision
        self.changed.set()

    def wake(self) -> None:
        """The run is over, whatever came of it: nobody needs to wait."""
        self.begun.set()
        self.changed.set()

    def grown(self) -> dict[int, str]:
        """The text of each branch."""
        return {branch: "".join(pieces) for branch, pieces in self.texts.items()}

    def standing(self) -> dict[str, JsonValue]:
        """How things stand, for whoever waits."""
        decision = self.decision
        return {
            "answer": None if decision is None or decision.answer is None else decision.answer.value,
            "confidence": None if decision is None else decision.confidence,
            "sampled": self.sampled,
            "paths_started": self.started,
            "paths_ended": self.ended,
        }
