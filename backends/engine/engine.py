"""The embedded engine: a backend over torch and transformers, in this process."""

import asyncio
import atexit
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path as FilePath

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from branchwise.backends.base import Backend, Capabilities, ExtendRequest, Scores
from branchwise.backends.engine.cache.kv_pool import Pool
from branchwise.backends.engine.cache.radix_tree import TokenTree
from branchwise.backends.engine.cache.snapshots import Snapshots
from branchwise.backends.engine.model.allocator import keep_freed
from branchwise.backends.engine.model.causal_lm import load_network
from branchwise.backends.engine.model.recurrent import engine_model
from branchwise.backends.engine.model.threads import rest
from branchwise.backends.engine.scheduler.jobs import LiveBranch, ScoreJob, StartJob
from branchwise.backends.engine.scheduler.step_loop import StepLoop
from branchwise.backends.engine.settings import EngineSettings
from branchwise.backends.engine.speculation.draft_budget import Gate
from branchwise.backends.engine.speculation.drafter import Drafter
from branchwise.backends.engine.speculation.drafting import Drafting
from branchwise.backends.engine.speculation.rejection import reject
from branchwise.backends.engine.speculation.setup import Target, drafter_for, drafting_for, gate_for
from branchwise.backends.engine.speculation.verify import walk
from branchwise.backends.stream import Ended, Extension
from branchwise.backends.tokenization.detokenizer import TextStream
from branchwise.backends.tokenization.prompt import Prompter
from branchwise.core.errors import ConfigError, ModelError
from branchwise.core.messages import Messages
from branchwise.core.path import Path, StopReason
from branchwise.core.usage import Usage


class Engine(Backend):
    """Runs a causal LM: prompts are computed once, all branches of all questions in one batch."""

    def __init__(
        self,
        network: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        settings: EngineSettings | None = None,
        draft_network: PreTrainedModel | None = None,
    ) -> None:
        """`draft_network`: a smaller one for the same tokens, where the settings name a draft model.

        Raises ModelError for a network the engine would not compute rightly, ConfigError for drafters that the
        networks cannot serve.
        """
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
        keep_freed()
        self._target = Target(self._model, TokenTree(pool.slots), pool)
        self._draft_model = None if draft_network is None else engine_model(draft_network)
        drafting, rejection = (
            drafting_for(self._target, self._draft_model, settings),
            settings.acceptance == "rejection",
        )
        self._loop = StepLoop(
            *self._target, snapshots, ends, settings.most_branches(self._model.device), settings.prefill_chunk,
            drafting, reject if rejection else walk,
        )  # fmt: skip
        changes = [] if settings.weights is None else [f"weights rounded to {settings.weights}"]
        if rejection:
            changes.append("drawn by rejection sampling: the same distribution, not the tokens of plain decoding")
        context = min(self._model.context, room.tokens)
        self._capabilities = Capabilities(model=name, context=context, changes=tuple(changes), keyed=not rejection)
        rest()
        self._loop.start()
        # A thread still inside torch when the interpreter goes down aborts the process.
        atexit.register(self._loop.close)

    @classmethod
    def load(
        cls,
        folder: FilePath,
        *,
        name: str | None = None,
        settings: EngineSettings | None = None,
        draft_folder: FilePath | None = None,
    ) -> "Engine":
        """The engine for the model in `folder`; `draft_folder` has the settings' draft model.

        Raises ModelError when one can't be loaded, ConfigError when the two don't fit together.
        """
        settings = settings or EngineSettings()
        network = load_network(folder, settings.torch_dtype(), settings.torch_device())
        tokenizer, draft_network = _load_tokenizer(folder), None
        if draft_folder is not None:
            if _load_tokenizer(draft_folder).get_vocab() != tokenizer.get_vocab():
                raise ConfigError(
                    "draft_model", f"{settings.draft_model} has other tokens than the model", "use one of its family"
                )
            draft_network = load_network(draft_folder, settings.torch_dtype(), settings.torch_device())
        return cls(network, tokenizer, name=name or folder.name, settings=settings, draft_network=draft_network)

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        dtype: torch.dtype = self._model.network.dtype
        return dtype

    async def root(self, messages: Messages, key: int) -> Path:
        tokens = self._prompter.tokens(messages)
        if not tokens:
            raise ConfigError("question", "has no tokens", "ask something")
        self._capabilities.check_prompt(len(tokens))
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
        question = hash(request.path.root.token_ids)
        sampling, decoder = request.sampling, self._tokenizer.backend_tokenizer
        for copy, key in enumerate(request.keys):
            text = TextStream(decoder, tokens, sampling.stop)
            branches.append(LiveBranch(extension, copy, key, sampling, text, tokens, request.priority, question))
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

    def draft_with(self, drafting: Drafting | None) -> None:
        """Draft like this from the next step on; None: not at all. Only while nothing runs."""
        self._loop.batch.drafting = drafting

    def gate(self, budget: int | None = None) -> Gate:
        """A new gate that takes so many drafts, or as many as pay."""
        return gate_for(self._target, budget)

    def drafter(self, name: str) -> Drafter:
        """A new drafter."""
        return drafter_for(name, self._target, self._draft_model, self.settings)

    def clear(self) -> None:
        self._loop.inbox.forget(None)

    async def close(self) -> None:
        atexit.unregister(self._loop.close)
        await asyncio.to_thread(self._loop.close)


def _load_tokenizer(folder: FilePath) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"model: {folder} has no tokenizer transformers can read",
            "add tokenizer.json and tokenizer_config.json",
        ) from error
    if not tokenizer.is_fast:
        raise ModelError(f"model: {folder} has only a slow tokenizer", "add a tokenizer.json")
    return tokenizer


def _end_tokens(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Every token after which this model has nothing more to say."""
    ends: set[int] = set()
    for source in (network.generation_config, network.config.get_text_config(), tokenizer):
        found = getattr(source, "eos_token_id", None)
        ends.update([found] if isinstance(found, int) else found or [])
    return frozenset(ends)
