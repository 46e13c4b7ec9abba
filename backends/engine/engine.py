"""The embedded engine: a backend over torch and transformers, in this process."""

import asyncio
import atexit
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path as FilePath

from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from branchwise.backends.base import Backend, Capabilities, ExtendRequest, Scores
from branchwise.backends.engine.heap import keep_freed
from branchwise.backends.engine.jobs import LiveBranch, ScoreJob, StartJob
from branchwise.backends.engine.loop import StepLoop
from branchwise.backends.engine.model import load_network
from branchwise.backends.engine.pool import Pool
from branchwise.backends.engine.prompt import Prompter
from branchwise.backends.engine.recurrent import engine_model
from branchwise.backends.engine.settings import EngineSettings
from branchwise.backends.engine.states import Snapshots
from branchwise.backends.engine.text import TextStream
from branchwise.backends.engine.threads import rest
from branchwise.backends.extension import Ended, Extension
from branchwise.errors import ConfigError, ModelError
from branchwise.messages import Messages
from branchwise.path import Path, StopReason
from branchwise.usage import Usage


class Engine(Backend):
    """Runs a causal LM: prompts are computed once, all branches of all questions in one batch."""

    def __init__(
        self,
        network: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        settings: EngineSettings | None = None,
    ) -> None:
        """Raises ModelError for a network the engine would not compute rightly."""
        settings = settings or EngineSettings()
        self.settings = settings
        self._model = engine_model(network, int8=settings.weights == "int8")
        self._prompter = Prompter(tokenizer)
        self._tokenizer = tokenizer
        room = self._model.room(settings.memory_bytes(self._model.device))
        pool, snapshots = Pool(room.tokens, self._model.device), Snapshots(room.states)
        if self._model.device.type == "cuda":
            self._model.fix_shapes(pool)
        ends = _end_tokens(network, tokenizer)
        self._loop = StepLoop(self._model, pool, snapshots, ends, settings.max_batch, settings.prefill_chunk)
        changes = () if settings.weights is None else (f"weights rounded to {settings.weights}",)
        context = min(self._model.context, room.tokens)
        self._capabilities = Capabilities(model=name, context=context, changes=changes)
        keep_freed()
        rest()
        self._loop.start()
        # A thread still inside torch when the interpreter goes down aborts the process.
        atexit.register(self._loop.close)

    @classmethod
    def load(cls, folder: FilePath, *, name: str | None = None, settings: EngineSettings | None = None) -> "Engine":
        """The engine for the model in `folder`. Raises ModelError when it can't be loaded."""
        settings = settings or EngineSettings()
        network = load_network(folder, settings.torch_dtype(), settings.torch_device())
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(
                f"model: {folder} has no tokenizer transformers can read",
                "add tokenizer.json and tokenizer_config.json",
            ) from error
        if not tokenizer.is_fast:
            raise ModelError(f"model: {folder} has only a slow tokenizer", "add a tokenizer.json")
        return cls(network, tokenizer, name=name or folder.name, settings=settings)

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def root(self, messages: Messages, key: int) -> Path:
        tokens = self._prompter.tokens(messages)
        if not tokens:
            raise ConfigError("question", "has no tokens", "ask something")
        if len(tokens) >= self._capabilities.context:
            raise ConfigError(
                "question",
                f"its prompt is {len(tokens)} tokens long, the model's context is {self._capabilities.context}",
                "shorten it, or use a model with a longer context",
            )
        return Path(parent=None, key=key, token_ids=tokens, text="", messages=messages)

    def extend(self, request: ExtendRequest) -> Extension:
        tokens = request.path.all_token_ids()
        room = self._capabilities.context - len(tokens)
        wanted = request.sampling.max_tokens or room
        request = replace(request, sampling=replace(request.sampling, max_tokens=max(1, min(wanted, room))))
        branches: list[LiveBranch] = []
        cancel = self._loop.inbox.cancel
        extension = Extension(len(request.keys), lambda copy: cancel(branches[copy]) if branches else None)
        rest()  # the caller may compute with torch, too
        if room <= 0:
            for copy in range(len(request.keys)):
                extension.deliver(Ended(copy, StopReason.LENGTH, Usage()))
            return extension
        sampling, decoder = request.sampling, self._tokenizer.backend_tokenizer
        for copy, key in enumerate(request.keys):
            text = TextStream(decoder, tokens, sampling.stop)
            branches.append(LiveBranch(extension, copy, key, sampling, text, tokens, request.priority))
        self._loop.inbox.submit(StartJob(tokens, request.priority, waiting=list(branches)))
        return extension

    async def score(self, path: Path, continuations: Sequence[str]) -> Scores:
        loop = asyncio.get_running_loop()
        ids = tuple(tuple(self._prompter.encode(text)) for text in continuations)
        tokens = path.all_token_ids()
        longest = len(tokens) + max(map(len, ids))
        if longest > self._capabilities.context:
            raise ConfigError(
                "continuations",
                f"reach {longest} tokens, the model's context is {self._capabilities.context}",
                "cut them",
            )
        future: asyncio.Future[Scores] = loop.create_future()
        self._loop.inbox.submit(ScoreJob(tokens, continuations=ids, future=future))
        return await future

    async def force(self, path: Path, text: str) -> Path:
        tokens = tuple(self._prompter.encode(text))
        stream = TextStream(self._tokenizer.backend_tokenizer, path.all_token_ids(), ())
        ends = tuple(stream.push(token) for token in tokens)
        return Path(
            parent=path,
            key=path.key,
            token_ids=tokens,
            text=stream.text,
            ends=ends,
            forced=True,
        )

    def release(self, paths: Sequence[Path]) -> None:
        self._loop.inbox.forget(path.all_token_ids() for path in paths)

    def clear(self) -> None:
        self._loop.inbox.forget(None)

    async def close(self) -> None:
        atexit.unregister(self._loop.close)
        await asyncio.to_thread(self._loop.close)


def _end_tokens(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Every token after which this model has nothing more to say."""
    ends: set[int] = set()
    for source in (network.generation_config, network.config.get_text_config(), tokenizer):
        found = getattr(source, "eos_token_id", None)
        ends.update([found] if isinstance(found, int) else found or [])
    return frozenset(ends)
