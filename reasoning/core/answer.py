"""An answer as strategies count it."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer found in a branch. Equal `value`s are the same answer, however they were written."""

    value: str
    """The text that stands for all equivalent answers of the question."""
    text: str = field(compare=False, default="")
    """As the branch wrote it."""
