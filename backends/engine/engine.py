"""The embedded engine: a backend over torch and transformers, in this process.

It turns calls of the `Backend` interface into requests of the step loop, whose thread runs the model.
"""

import asyncio
import atexit
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path as FilePath

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from branchwise.backends.base import Backend, Capabilities, ExtendRequest, Scores
from branchwise.backends.engine.branch import EngineBranch
from branchwise.backends.engine.cache.kv_pool import KVPool
from branchwise.backends.engine.cache.radix_tree import RadixTree
from branchwise.backends.engine.cache.snapshots import SnapshotCache
from branchwise.backends.engine.model.allocator import retain_freed_memory
from branchwise.backends.engine.model.loading import load_network
from branchwise.backends.engine.model.recurrent import engine_model
from branchwise.backends.engine.model.threads import release_openmp_workers
from branchwise.backends.engine.scheduler.requests import GenerateRequest, ScoreRequest
from branchwise.backends.engine.scheduler.step_loop import StepLoop
from branchwise.backends.engine.settings import EngineSettings
from branchwise.backends.engine.speculation.draft_budget import DraftBudget
from branchwise.backends.engine.speculation.drafter import Drafter
from branchwise.backends.engine.speculation.rejection import verify_by_rejection
from branchwise.backends.engine.speculation.setup import Target, draft_budget_for, drafter_for, speculator_for
from branchwise.backends.engine.speculation.speculator import Speculator
from branchwise.backends.engine.speculation.verify import verify_keyed
from branchwise.backends.stream import Ended, Extension
from branchwise.backends.tokenization.detokenizer import Detokenizer
from branchwise.backends.tokenization.prompt import PromptEncoder
from branchwise.core.errors import ConfigError, ModelError, require
from branchwise.core.messages import Messages
from branchwise.core.path import Path, StopReason
from branchwise.core.usage import Usage


class Engine(Backend):
    """A causal LM in this process. It computes shared prefixes once and batches the branches of all requests."""

    def __init__(
        self,
        network: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        settings: EngineSettings | None = None,
        draft_network: PreTrainedModel | None = None,
    ) -> None:
        """`draft_network`: a smaller model with the same tokenizer, required where the drafters name draft-model.

        Raises ModelError for a network that the engine does not support, ConfigError for settings that the networks or
        the device do not support.
        """
        settings = settings or EngineSettings()
        self.settings = settings
        self._model = engine_model(
            network, int8=settings.weights == "int8", deterministic=settings.deterministic is not False
        )
        require(
            self._model.deterministic or not settings.deterministic,
            "deterministic",
            "is True, but the engine supports it only for Llama, Mistral and Qwen models on a CPU, without int8",
            "leave it out",
        )
        self._prompts = PromptEncoder(tokenizer)
        self._tokenizer = tokenizer
        capacity = self._model.capacity(settings.memory_bytes(self._model.device))
        pool = KVPool(capacity.tokens, self._model.device)
        if self._model.device.type == "cuda":
            self._model.enable_cuda_graphs(pool)
        retain_freed_memory()
        self._target = Target(self._model, RadixTree(pool.slots), pool)
        self._draft_model = None if draft_network is None else engine_model(draft_network)
        self._loop = self._make_loop(SnapshotCache(capacity.states), _end_tokens(network, tokenizer))
        self._capabilities = Capabilities(
            model=name,
            context=min(self._model.context, capacity.tokens),
            changes=tuple(_changes(settings)),
            keyed=settings.acceptance != "rejection",
        )
        release_openmp_workers()
        self._loop.start()
        # A thread that is still inside torch when the interpreter exits aborts the process.
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
        """Return an engine for the model in `folder`; `draft_folder` has the settings' draft model.

        Raises ModelError when one can't be loaded, ConfigError when their tokenizers differ.
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

    def _make_loop(self, snapshots: SnapshotCache, end_tokens: frozenset[int]) -> StepLoop:
        return StepLoop(
            model=self._model,
            tree=self._target.tree,
            pool=self._target.pool,
            snapshots=snapshots,
            end_tokens=end_tokens,
            max_branches=self.settings.branch_limit(self._model.device),
            prefill_chunk=self.settings.prefill_chunk,
            speculator=speculator_for(self._target, self._draft_model, self.settings),
            verify=verify_by_rejection if self.settings.acceptance == "rejection" else verify_keyed,
        )

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights."""
        dtype: torch.dtype = self._model.network.dtype
        return dtype

    async def root(self, messages: Messages, key: int) -> Path:
        self._capabilities.check_prompt(self._prompts.least_tokens(messages), exact=False)
        tokens = await asyncio.to_thread(self._prompts.tokens, messages)
        if not tokens:
            raise ConfigError("question", "has no tokens", "ask something")
        self._capabilities.check_prompt(len(tokens))
        return Path(parent=None, key=key, token_ids=tokens, text="", messages=messages)

    async def tokenize(self, text: str | Messages) -> tuple[int, ...]:
        return self._prompts.tokens(text) if isinstance(text, Messages) else tuple(self._prompts.encode(text))

    def extend(self, request: ExtendRequest) -> Extension:
        tokens = request.path.all_token_ids()
        remaining = self._capabilities.context - len(tokens)
        max_tokens = max(1, min(request.sampling.max_tokens or remaining, remaining))
        sampling = replace(request.sampling, max_tokens=max_tokens)
        branches: list[EngineBranch] = []
        cancel = self._loop.input_queue.cancel
        extension = Extension(len(request.keys), lambda copy: cancel(branches[copy]) if branches else None)
        release_openmp_workers()  # the calling thread may use torch, too
        if remaining <= 0:
            for copy in range(len(request.keys)):
                extension.deliver(Ended(copy, StopReason.LENGTH, Usage()))
            return extension
        prompt_hash = hash(request.path.root.token_ids)
        for copy, key in enumerate(request.keys):
            branches.append(
                EngineBranch(
                    extension=extension,
                    copy=copy,
                    key=key,
                    sampling=sampling,
                    detokenizer=Detokenizer(self._tokenizer.backend_tokenizer, tokens, sampling.stop),
                    prefix=tokens,
                    priority=request.priority,
                    prompt_hash=prompt_hash,
                )
            )
        self._loop.input_queue.submit(GenerateRequest(tokens, request.priority, waiting=list(branches)))
        return extension

    async def score(self, path: Path, continuations: Sequence[str]) -> Scores:
        loop = asyncio.get_running_loop()
        ids = tuple(tuple(self._prompts.encode(text)) for text in continuations)
        tokens = path.all_token_ids()
        longest = len(tokens) + max(map(len, ids))
        if longest > self._capabilities.context:
            raise ConfigError(
                "continuations",
                f"reach {longest} tokens, the model's context is {self._capabilities.context}",
                "cut them",
            )
        future: asyncio.Future[Scores] = loop.create_future()
        self._loop.input_queue.submit(ScoreRequest(tokens, continuations=ids, future=future))
        return await future

    async def force(self, path: Path, text: str) -> Path:
        tokens = tuple(self._prompts.encode(text))
        detokenizer = Detokenizer(self._tokenizer.backend_tokenizer, path.all_token_ids(), ())
        ends = tuple(detokenizer.push(token) for token in tokens)
        return Path(parent=path, key=path.key, token_ids=tokens, text=detokenizer.text, ends=ends, forced=True)

    def release(self, paths: Sequence[Path]) -> None:
        self._loop.input_queue.release(path.all_token_ids() for path in paths)

    def set_speculator(self, speculator: Speculator | None) -> None:
        """Use `speculator` from the next step on, None for no speculation. Call it only while no branch runs."""
        self._loop.batch.speculator = speculator

    def draft_budget(self, nodes: int | None = None) -> DraftBudget:
        """Return a new draft budget of `nodes` nodes for each branch, or an adaptive one."""
        return draft_budget_for(self._target, nodes)

    def drafter(self, name: str) -> Drafter:
        """Return a new drafter by its name."""
        return drafter_for(name, self._target, self._draft_model, self.settings)

    def clear(self) -> None:
        self._loop.input_queue.clear()

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
    """Return the end-of-sequence tokens of the model and its tokenizer."""
    tokens: set[int] = set()
    for source in (network.generation_config, network.config.get_text_config(), tokenizer):
        found = getattr(source, "eos_token_id", None)
        tokens.update([found] if isinstance(found, int) else found or [])
    return frozenset(tokens)


def _changes(settings: EngineSettings) -> list[str]:
    """Return the settings that change the sampled tokens, in words."""
    changes = [] if settings.weights is None else [f"weights rounded to {settings.weights}"]
    if settings.acceptance == "rejection":
        changes.append("rejection sampling: the same distribution, not the tokens of plain decoding")
    return changes
