"""The answer of a branch, as strategies count it."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer extracted from a branch. Answers with the same `value` are equal, whatever their `text`."""

    value: str
    """The canonical text shared by all equivalent answers of the question."""
    text: str = field(compare=False, default="")
    """The answer as the branch wrote it."""
