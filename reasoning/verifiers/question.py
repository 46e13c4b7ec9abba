"""What a path answers."""

from branchwise.core.path import Path


def asked(path: Path) -> str:
    """The content of the last user turn a path grew from; "" where there is none."""
    messages = path.root.messages
    turns = () if messages is None else messages.turns
    return next((turn.content for turn in reversed(turns) if turn.role == "user"), "")
