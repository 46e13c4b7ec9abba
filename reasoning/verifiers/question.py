"""The question of a path."""

from branchwise.core.path import Path


def question_text(path: Path) -> str:
    """Return the last user turn of the path's prompt; "" without one."""
    messages = path.root.messages
    turns = () if messages is None else messages.turns
    return next((turn.content for turn in reversed(turns) if turn.role == "user"), "")
