"""What a reward model reads of a path: the conversation in its own tokens, and the places where it is asked."""

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from branchwise.core.errors import BackendError
from branchwise.core.messages import Message, Messages
from branchwise.core.path import Path
from branchwise.prompts.steps import step_ends

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Reading(NamedTuple):
    """A conversation."""

    tokens: tuple[int, ...]
    places: tuple[int, ...]
    """The tokens whose scores count, first to last."""


class _Spelled(NamedTuple):
    tokens: list[int]
    spans: list[tuple[int, int]]  # of characters, for each token


class RewardReader:
    """Turns paths into readings. Text that spells a control token is read as the letters it is written with."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", *, process: bool, pad: int | None, context: int) -> None:
        """`process`: asked at the ends of steps; otherwise at the last token that is not `pad`, as transformers does.

        `context`: most tokens.
        """
        self._tokenizer = tokenizer
        self._process, self._pad, self._context = process, pad, context
        added = tokenizer.added_tokens_decoder.values()
        self._controls = sorted((token.content for token in added if token.special), key=len, reverse=True)

    def read(self, path: Path) -> Reading:
        """Raises BackendError for what the model can't be asked about."""
        messages, text = path.root.messages, path.answer_text
        if messages is None:
            raise _unfit("the path has no conversation", "use a backend whose roots keep their messages")
        if self._tokenizer.chat_template:
            whole, seam = self._render(messages, text)
            spelled = self._spell(whole.split(seam))
            whole = whole.replace(seam, "")
        else:
            whole = "\n\n".join(turn.content for turn in messages.turns if turn.content) + f"\n{text}"
            spelled = self._plain(whole)
        if len(spelled.tokens) > self._context:
            problem = f"the path is {len(spelled.tokens)} tokens long, the model reads {self._context} at most"
            raise _unfit(problem, "use one with a longer context, or a lower --max-tokens")
        return Reading(tuple(spelled.tokens), self._places(path, text, whole, spelled))

    def _places(self, path: Path, text: str, whole: str, spelled: _Spelled) -> tuple[int, ...]:
        if not self._process:
            real = (i for i in range(len(spelled.tokens) - 1, -1, -1) if spelled.tokens[i] != self._pad)
            return (next(real, 0),)
        # Templates may trim what they are given.
        start, said = next(
            ((whole.rfind(form) - text.find(form), form) for form in (text, text.strip()) if form in whole), (0, None)
        )
        if said is None:
            raise _unfit("the chat template changes the path's text", "use a model whose template keeps it")
        first, last = start + text.find(said), start + text.find(said) + len(said)
        ends = path.token_ends()
        steps = [ends[count - 1] for count in step_ends(path)] if ends else [len(text)]
        lasts = (min(max(start + end, first), last) - 1 for end in steps or [len(text)])
        return tuple(dict.fromkeys(_covering(spelled.spans, char) for char in lasts))

    def _render(self, messages: Messages, text: str) -> tuple[str, str]:
        """The conversation as the model's template writes it, and the seam that stands inside what spells a control
        token there."""
        seam = "\ue000"
        content = messages.model_dump_json() + text
        while seam in content:
            seam += "\ue001"
        refusal: Exception | None = None
        for turns in (messages.turns, _without_system(messages.turns)):
            said = [*turns, Message(role="assistant", content=text)]
            try:
                rendered = self._tokenizer.apply_chat_template(
                    [self._turn(turn, seam) for turn in said],  # type: ignore[arg-type]  # tool calls are no text
                    tools=[dict(tool) for tool in messages.tools] or None,
                    tokenize=False,
                )
            except Exception as error:  # a template is a program of the model's makers
                refusal = refusal or error
            else:
                return str(rendered), seam
        reason = " ".join(str(refusal).split())[:300]
        raise _unfit(f"its chat template refuses the conversation ({reason})", "use roles it knows") from refusal

    def _turn(self, turn: Message, seam: str) -> dict[str, object]:
        said: dict[str, object] = {"role": turn.role, "content": self._guarded(turn.content, seam)}
        if turn.tool_calls:
            said["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _read(call.arguments)}}
                for call in turn.tool_calls
            ]
        if turn.tool_call_id is not None:
            said["tool_call_id"] = turn.tool_call_id
        return said

    def _guarded(self, text: str, seam: str) -> str:
        for control in self._controls:
            text = text.replace(control, control[0] + seam + control[1:])
        return text

    def _spell(self, pieces: Sequence[str]) -> _Spelled:
        """Tokens of a rendered text, each piece by itself; the template writes the control tokens."""
        spelled, before = _Spelled([], []), 0
        for piece in pieces:
            encoded = self._tokenizer(piece, add_special_tokens=False, return_offsets_mapping=True)
            spelled.tokens.extend(encoded["input_ids"])
            spelled.spans.extend((before + start, before + end) for start, end in encoded["offset_mapping"])
            before += len(piece)
        return spelled

    def _plain(self, text: str) -> _Spelled:
        encoded = self._tokenizer(text, return_offsets_mapping=True, split_special_tokens=True)
        return _Spelled(list(encoded["input_ids"]), list(encoded["offset_mapping"]))


def _covering(spans: Sequence[tuple[int, int]], char: int) -> int:
    """The last token that begins no later than a character."""
    return max((i for i, (start, end) in enumerate(spans) if start < end and start <= char), default=0)


def _without_system(turns: Sequence[Message]) -> tuple[Message, ...]:
    """What system turns say opens the next user turn: some templates have no place for them."""
    return tuple(_folded(turns))


def _folded(turns: Sequence[Message]) -> Iterator[Message]:
    waiting: list[str] = []
    for turn in turns:
        if turn.role == "system":
            waiting.append(turn.content)
        elif turn.role == "user" and waiting:
            yield turn.model_copy(update={"content": "\n\n".join([*waiting, turn.content])})
            waiting = []
        else:
            yield turn


def _read(arguments: str) -> object:
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def _unfit(problem: str, hint: str) -> BackendError:
    return BackendError(f"reward model: {problem}", retryable=False, hint=hint)
