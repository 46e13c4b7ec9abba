"""Tasks: the prompt of a kind of question, the format of its answers, and the limits of a branch."""

from dataclasses import dataclass, field

from branchwise.answers.formats import AnswerFormat
from branchwise.core.errors import require
from branchwise.core.messages import Message, Messages
from branchwise.core.path import Path, StopReason
from branchwise.core.question import Question, as_messages
from branchwise.prompts.steps import step_ends
from branchwise.prompts.thinking import Thinking


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A worked example shown before the question."""

    question: str
    solution: str


@dataclass(frozen=True, slots=True)
class Task:
    """Prompt, answer format and limits for a kind of question."""

    name: str
    format: AnswerFormat
    instruction: str = ""
    """System turn; appended to a system turn that the question already has."""
    exemplars: tuple[Exemplar, ...] = ()
    """Worked examples, rendered as earlier turns, in order."""
    prefix: str = ""
    """Beginning of the assistant's turn."""
    max_tokens: int = 512
    """Maximum number of tokens per branch, unless the sampling parameters set one."""
    stop: tuple[str, ...] = ()
    """Stop strings."""
    thinking: Thinking = field(default_factory=Thinking)
    tentative: bool = False
    """True if the format is a guess: when a question's first reply states no answer, no other path is sampled."""

    def __post_init__(self) -> None:
        require(self.max_tokens >= 1, "max_tokens", f"is {self.max_tokens}", "use at least 1")

    def render(self, question: Question) -> Messages:
        """Return the prompt for a question. Raises ConfigError if the question has no content."""
        messages = as_messages(question)
        examples = tuple(
            turn
            for exemplar in self.exemplars
            for turn in (
                Message(role="user", content=exemplar.question),
                Message(role="assistant", content=exemplar.solution),
            )
        )
        system = tuple(turn for turn in messages.turns[:1] if turn.role == "system")
        prompt = messages.model_copy(
            update={
                "turns": (*system, *examples, *messages.turns[len(system) :]),
                "prefix": messages.prefix or self.prefix,
                "thinking": self.thinking.enabled if messages.thinking is None else messages.thinking,
            }
        )
        return prompt.with_system(self.instruction)

    def extract(self, path: Path) -> str | None:
        """Return the answer that a finished path states; None if it states no answer."""
        text = self.thinking.answer_part(path.answer_text)
        if path.stop_reason is StopReason.LENGTH:
            return self.format.extract_cut(text)
        return self.format.extract(text)

    def steps(self, path: Path) -> tuple[int, ...]:
        """Return the token counts at which the path's steps end."""
        return step_ends(path)
