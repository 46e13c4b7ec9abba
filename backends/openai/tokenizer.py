"""Tokenizer of a server, used over HTTP."""

import asyncio
from collections.abc import Sequence

from branchwise.backends.openai.chat import json_messages, template_options
from branchwise.backends.openai.endpoint import Json
from branchwise.backends.openai.responses import Detokenized, Tokenized
from branchwise.backends.openai.special_tokens import special_token_candidates
from branchwise.backends.openai.token_ends import token_ends
from branchwise.backends.openai.transport import Transport
from branchwise.backends.tokenization.special_tokens import Escaper, SpecialTokens
from branchwise.core.errors import ConfigError
from branchwise.core.messages import Messages

# Precedes a text that continues another one. No vocabulary has a token that joins it with the next character.
_ANCHOR = "\ue000"
_CACHE_SIZE = 200_000
"""Most tokens and candidates for special tokens in a cache; a full cache is emptied."""


class RemoteTokenizer:
    """Tokenizer over vLLM's /tokenize and /detokenize. Raises ServerError."""

    def __init__(self, transport: Transport, model: str) -> None:
        self._transport = transport
        self._model = model
        self._strings: dict[int, str] = {}
        self._special: dict[str, bool] = {}
        self._anchor: tuple[int, ...] | None = None
        """Tokens of the anchor; empty if a text is encoded without an added blank; None until it is known."""

    async def prompt(self, messages: Messages) -> tuple[int, ...]:
        """Return the tokens of a prompt, including the beginning of the assistant's turn.

        Special tokens in the content are encoded as ordinary text: the rendered prompt is split inside them. Raises
        ConfigError if the server's tokenizer reads them as special tokens even so.
        """
        found = {text for text in special_token_candidates(messages) if await self._is_special(text)}
        if not found:
            ids = await self._encode_chat(messages)
            return (*ids, *(await self.encode(messages.prefix)))
        escaper = Escaper(SpecialTokens(found), messages)
        escaped = escaper.messages(messages)
        ids = await self._encode_chat(escaped)
        text = await self.decode(ids)
        if await self._encode_plain(text) != ids or escaper.separator not in text + escaped.prefix:
            shown = ", ".join(sorted(found))
            raise ConfigError(
                "question", f"contains {shown}, which the server reads as special tokens", "remove or space it"
            )
        pieces = [*escaper.split(text), *(escaper.split(escaped.prefix) if escaped.prefix else ())]
        encoded = [await self._encode_plain(pieces[0]), *[await self.encode(piece) for piece in pieces[1:]]]
        return tuple(token for piece in encoded for token in piece)

    async def encode(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text that continues another one. Special tokens in it are honoured."""
        if not text:
            return ()
        if self._anchor is None:
            anchor, plain, joined = [await self._encode_plain(one) for one in (_ANCHOR, "a", _ANCHOR + "a")]
            self._anchor = () if joined[len(anchor) :] == plain else anchor
        if self._anchor:
            ids = await self._encode_plain(_ANCHOR + text)
            if ids[: len(self._anchor)] == self._anchor:
                return ids[len(self._anchor) :]
        return await self._encode_plain(text)

    async def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens, including special tokens."""
        body: Json = {"model": self._model, "tokens": list(ids)}
        return (await self._transport.request("/detokenize", body, Detokenized)).prompt

    async def token_strings(self, ids: Sequence[int]) -> tuple[str, ...]:
        """Return [tokens] the text of each token decoded alone."""
        if len(self._strings) > _CACHE_SIZE:
            self._strings.clear()
        unknown = [token for token in dict.fromkeys(ids) if token not in self._strings]
        texts = await asyncio.gather(*(self.decode((token,)) for token in unknown))
        # Another branch may empty the cache during the requests: the result uses a copy.
        strings = self._strings | dict(zip(unknown, texts, strict=True))
        self._strings.update(zip(unknown, texts, strict=True))
        return tuple(strings[token] for token in ids)

    async def ends(self, text: str, ids: Sequence[int]) -> tuple[int, ...]:
        """Return [tokens] the length of `text` after each token."""
        return token_ends(text, await self.token_strings(ids))

    async def _encode_chat(self, messages: Messages) -> tuple[int, ...]:
        body: Json = {"model": self._model, "messages": json_messages(messages), "add_generation_prompt": True}
        body |= template_options(messages)
        return tuple((await self._transport.request("/tokenize", body, Tokenized)).tokens)

    async def _encode_plain(self, text: str) -> tuple[int, ...]:
        body: Json = {"model": self._model, "prompt": text, "add_special_tokens": False}
        return tuple((await self._transport.request("/tokenize", body, Tokenized)).tokens)

    async def _is_special(self, candidate: str) -> bool:
        """Return True if a candidate is one token: as ordinary text it would be several."""
        if candidate not in self._special:
            if len(self._special) > _CACHE_SIZE:
                self._special.clear()
            self._special[candidate] = len(await self._encode_plain(candidate)) == 1
        return self._special[candidate]
