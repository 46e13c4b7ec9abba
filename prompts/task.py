"""A task: how a kind of question is asked and answered."""

from dataclasses import dataclass, field

from branchwise.answers.formats import AnswerFormat
from branchwise.core.errors import require
from branchwise.core.messages import Message, Messages, Question, as_messages
from branchwise.core.path import Path, StopReason
from branchwise.prompts.steps import step_ends
from branchwise.prompts.thinking import Thinking


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A worked example shown before the question."""

    question: str
    solution: str


@dataclass(frozen=True, slots=True)
class Task:
    """How a kind of question is put to a model, and where its answer stands."""

    name: str
    format: AnswerFormat
    instruction: str = ""
    """What the system turn says; it is added to a system turn the question already has."""
    exemplars: tuple[Exemplar, ...] = ()
    """Shown as earlier turns, in order."""
    prefix: str = ""
    """How the assistant's turn begins."""
    max_tokens: int = 512
    """Most tokens of a branch where the sampling does not say."""
    stop: tuple[str, ...] = ()
    """A branch ends where one of these appears."""
    thinking: Thinking = field(default_factory=Thinking)

    def __post_init__(self) -> None:
        require(self.max_tokens >= 1, "max_tokens", f"is {self.max_tokens}", "use at least 1")

    def render(self, question: Question) -> Messages:
        """The prompt for a question. Raises ConfigError when there is nothing to ask."""
        messages = as_messages(question)
        shown = tuple(
            turn
            for exemplar in self.exemplars
            for turn in (
                Message(role="user", content=exemplar.question),
                Message(role="assistant", content=exemplar.solution),
            )
        )
        system = tuple(turn for turn in messages.turns[:1] if turn.role == "system")
        asked = messages.model_copy(
            update={
                "turns": (*system, *shown, *messages.turns[len(system) :]),
                "prefix": messages.prefix or self.prefix,
                "thinking": self.thinking.enabled if messages.thinking is None else messages.thinking,
            }
        )
        return asked.with_system(self.instruction)

    def extract(self, path: Path) -> str | None:
        """The answer a finished path states, None if it states none."""
        text = self.thinking.answer_part(path.answer_text)
        if path.stop_reason is StopReason.LENGTH:
            return self.format.extract_cut(text)
        return self.format.extract(text)

    def steps(self, path: Path) -> tuple[int, ...]:
        """Token counts at which the path's steps end."""
        return step_ends(path)
