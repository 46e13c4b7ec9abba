"""The server's tokenizer, asked over HTTP."""

import asyncio
from collections.abc import Sequence

from branchwise.backends.openai.chat import options, turns
from branchwise.backends.openai.dialect import Json
from branchwise.backends.openai.ends import token_ends
from branchwise.backends.openai.special_tokens import free_seam, marks, seamed
from branchwise.backends.openai.transport import Transport
from branchwise.backends.openai.wire import Detokenized, Tokenized
from branchwise.core.errors import ConfigError
from branchwise.core.messages import Messages

# Stands before a text that goes on another one; no vocabulary has a token that joins it with what follows.
_ANCHOR = "\ue000"
_KEPT = 200_000  # tokens and marks whose spelling is remembered


class RemoteTokenizer:
    """Over vLLM's /tokenize and /detokenize. Raises ServerError."""

    def __init__(self, transport: Transport, model: str) -> None:
        self._transport, self._model = transport, model
        self._strings: dict[int, str] = {}
        self._controls: dict[str, bool] = {}
        self._anchor: tuple[int, ...] | None = None  # its tokens where texts open with a blank that is not theirs

    async def prompt(self, messages: Messages) -> tuple[int, ...]:
        """The tokens of a prompt, its opening included.

        Content that spells a control token is tokenized as the letters it is written with: the rendered prompt is cut
        inside it. Raises ConfigError where the server's tokenizer can't be kept from reading it as one.
        """
        found = {mark for mark in marks(messages) if await self._is_control(mark)}
        if not found:
            ids = await self._chat(messages)
            return (*ids, *(await self.encode(messages.prefix)))
        seam = free_seam(messages)
        guarded = seamed(messages, found, seam)
        ids = await self._chat(guarded)
        text = await self.decode(ids)
        if await self._plain(text) != ids or seam not in text + guarded.prefix:
            shown = ", ".join(sorted(found))
            raise ConfigError(
                "question", f"spells {shown}, which the server would read as its own", "take it out, or space it"
            )
        pieces = [*text.split(seam), *([] if not guarded.prefix else guarded.prefix.split(seam))]
        encoded = [await self._plain(pieces[0]), *[await self.encode(piece) for piece in pieces[1:]]]
        return tuple(token for piece in encoded for token in piece)

    async def encode(self, text: str) -> tuple[int, ...]:
        """Tokens of a text that goes on another one; control tokens in it are honoured."""
        if not text:
            return ()
        if self._anchor is None:
            anchor, plain, joined = [await self._plain(one) for one in (_ANCHOR, "a", _ANCHOR + "a")]
            self._anchor = () if joined[len(anchor) :] == plain else anchor
        if self._anchor:
            ids = await self._plain(_ANCHOR + text)
            if ids[: len(self._anchor)] == self._anchor:
                return ids[len(self._anchor) :]
        return await self._plain(text)

    async def decode(self, ids: Sequence[int]) -> str:
        """What tokens spell, control tokens included."""
        body: Json = {"model": self._model, "tokens": list(ids)}
        return (await self._transport.ask("/detokenize", body, Detokenized)).prompt

    async def spell(self, ids: Sequence[int]) -> tuple[str, ...]:
        """What each token spells by itself."""
        if len(self._strings) > _KEPT:
            self._strings.clear()
        unknown = [token for token in dict.fromkeys(ids) if token not in self._strings]
        texts = await asyncio.gather(*(self.decode((token,)) for token in unknown))
        strings = self._strings | dict(zip(unknown, texts, strict=True))
        self._strings.update(zip(unknown, texts, strict=True))
        return tuple(strings[token] for token in ids)

    async def ends(self, text: str, ids: Sequence[int]) -> tuple[int, ...]:
        """[tokens] the length of `text` after each of its tokens."""
        return token_ends(text, await self.spell(ids))

    async def _chat(self, messages: Messages) -> tuple[int, ...]:
        body: Json = {"model": self._model, "messages": turns(messages), "add_generation_prompt": True}
        return tuple((await self._transport.ask("/tokenize", body | options(messages), Tokenized)).tokens)

    async def _plain(self, text: str) -> tuple[int, ...]:
        body: Json = {"model": self._model, "prompt": text, "add_special_tokens": False}
        return tuple((await self._transport.ask("/tokenize", body, Tokenized)).tokens)

    async def _is_control(self, mark: str) -> bool:
        """Whether a mark is one token: its letters would be several."""
        if mark not in self._controls:
            if len(self._controls) > _KEPT:
                self._controls.clear()
            self._controls[mark] = len(await self._plain(mark)) == 1
        return self._controls[mark]
