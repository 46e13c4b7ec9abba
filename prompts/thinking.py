"""Thinking models: the chat template's switch, the thinking budget, and the text after the thoughts."""

from dataclasses import dataclass

from branchwise.core.errors import require


@dataclass(frozen=True, slots=True)
class Thinking:
    """Settings for thinking models. The defaults change nothing."""

    enabled: bool | None = None
    """Switch of the chat template; None leaves the template's default."""
    budget: int | None = None
    """Maximum number of thinking tokens; after them, `closing` is inserted and the model answers. None: no limit."""
    open: str = "<think>"
    close: str = "</think>"
    closing: str = "\n\nI have thought enough and will answer now.\n</think>\n\n"

    def __post_init__(self) -> None:
        require(
            self.budget is None or self.budget >= 1,
            "thinking_budget",
            f"is {self.budget}",
            "use at least 1, or leave it out",
        )
        require(bool(self.open and self.close), "Thinking.open/close", "are empty", "give the model's own marks")
        require(self.close in self.closing, "Thinking.closing", f"lacks {self.close!r}", "end the thoughts in it")

    def answer_part(self, text: str) -> str:
        """Return the text after the thoughts; "" if the thoughts never ended."""
        _, closed, after = text.rpartition(self.close)
        if closed:
            return after.strip()
        # Some templates open the thoughts in the prompt. With a budget, or with thinking enabled, a text without
        # the closing mark therefore consists of thoughts only.
        if self.open in text or self.budget is not None or self.enabled:
            return ""
        return text
