"""Forms of a conversation that chat templates accept: with or without system turns, neighbours of one role joined."""

from collections.abc import Iterator, Sequence

from branchwise.core.messages import Message

Turns = tuple[Message, ...]


def turn_forms(turns: Turns) -> Iterator[Turns]:
    """Yield the turns as they are, then in forms that more templates accept, the most faithful first."""
    folded = _without_system(turns)
    forms = (turns, folded, _alternating(turns), _alternating(folded))
    yield from dict.fromkeys(forms)


def _without_system(turns: Turns) -> Turns:
    """Return turns in which the content of system turns opens the next user turn."""
    waiting: list[str] = []
    kept: list[Message] = []
    for turn in turns:
        if turn.role == "system":
            waiting.append(turn.content)
        elif turn.role == "user":
            kept.append(_joined(turn, [*waiting, turn.content]))
            waiting = []
        else:
            kept.append(turn)
    return (*kept, *(Message(role="user", content=text) for text in waiting))


def _alternating(turns: Turns) -> Turns:
    """Return turns in which neighbours of one role are joined, except tool results and turns with tool calls."""
    kept: list[Message] = []
    for turn in turns:
        last = kept[-1] if kept else None
        if last is None or last.role != turn.role or turn.role == "tool" or last.tool_calls or turn.tool_calls:
            kept.append(turn)
        else:
            kept[-1] = _joined(last, [last.content, turn.content])
    return tuple(kept)


def _joined(turn: Message, texts: Sequence[str]) -> Message:
    return turn.model_copy(update={"content": "\n\n".join(texts)})
