"""The progress of a run while it is served: texts, token counts and the leading answer."""

import asyncio
from dataclasses import dataclass, field

from pydantic import JsonValue

from branchwise.core.errors import BranchwiseError
from branchwise.driver import BranchEnded, BranchGrew, BranchStarted, QuestionEnded, RunEvent, Standing
from branchwise.strategies.strategy import Decision


@dataclass(slots=True)
class RunProgress:
    """Observer of one run, used in the run's event loop."""

    keep_texts: bool
    """Keep the text of every branch."""
    standings: bool = True
    """Receive `Standing` events: the leading answer after every branch."""
    texts: dict[int, list[str]] = field(default_factory=dict)
    """Pieces of text by branch."""
    started: int = 0
    ended: int = 0
    prompt: int | None = 0
    """Input tokens; None if the backend does not report token ids."""
    sampled: int = 0
    """Sampled tokens."""
    decision: Decision | None = None
    errors: tuple[BranchwiseError, ...] = ()
    """The errors of the question, once it ended."""
    first_branch: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a branch was passed to the backend, or the run ended."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, event: RunEvent) -> None:
        match event:
            case BranchStarted(action=action):
                self.started += 1
                input_tokens = len(action.path.all_token_ids())
                self.prompt = None if self.prompt is None or not input_tokens else self.prompt + input_tokens
                self.first_branch.set()
            case BranchGrew(branch=branch, tokens=tokens, text=text):
                self.sampled += tokens
                if self.keep_texts and text:
                    self.texts.setdefault(branch, []).append(text)
            case BranchEnded():
                self.ended += 1
            case Standing(decision=decision):
                self.decision = decision
            case QuestionEnded(errors=errors):
                self.errors = errors
        self.changed.set()

    def wake(self) -> None:
        """Wake everybody who waits, because the run is over."""
        self.first_branch.set()
        self.changed.set()

    def branch_texts(self) -> dict[int, str]:
        """Return the text of each branch so far."""
        return {branch: "".join(pieces) for branch, pieces in self.texts.items()}

    def standing(self) -> dict[str, JsonValue]:
        """Return the leading answer and the counts so far, as the key `branchwise` of a chunk."""
        decision = self.decision
        return {
            "answer": None if decision is None or decision.answer is None else decision.answer.value,
            "confidence": None if decision is None else decision.confidence,
            "sampled": self.sampled,
            "paths_started": self.started,
            "paths_ended": self.ended,
        }
