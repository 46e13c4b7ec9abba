"""Models that think before they answer: the template's switch, the budget, and what is answer."""

from dataclasses import dataclass

from branchwise.core.errors import require


@dataclass(frozen=True, slots=True)
class Thinking:
    """How a thinking model is used. The defaults leave every model as it is."""

    enabled: bool | None = None
    """The chat template's switch; None leaves the template's default."""
    budget: int | None = None
    """Most tokens of thinking; then `closing` is written in the model's place and it answers. None: no limit."""
    open: str = "<think>"
    close: str = "</think>"
    closing: str = "\n\nI have thought enough and will answer now.\n</think>\n\n"

    def __post_init__(self) -> None:
        require(
            self.budget is None or self.budget >= 1,
            "thinking_budget", f"is {self.budget}", "use at least 1, or leave it out",
        )  # fmt: skip
        require(bool(self.open and self.close), "Thinking.open/close", "are empty", "give the model's own marks")
        require(self.close in self.closing, "Thinking.closing", f"lacks {self.close!r}", "end the thoughts in it")

    def answer_part(self, text: str) -> str:
        """The text after the thoughts; empty where thinking began and never ended."""
        _, closed, after = text.rpartition(self.close)
        if closed:
            return after.strip()
        # Some templates open the thoughts in the prompt: with a budget, or switched on, a text without
        # the closing mark is all thoughts.
        if self.open in text or self.budget is not None or self.enabled:
            return ""
        return text
