"""vLLM's AsyncLLM as a backend, in this process.

Each branch is one vLLM request for one sample, whose prompt is all tokens of its path. vLLM's prefix cache computes
shared prefixes once, in whole blocks. Text and stop strings are handled here, as in the embedded engine.

Usage is incomplete where vLLM reports nothing: every branch counts each pass it was in as its own, and the further
passes of a chunked prefill, recomputation after preemption, the prefill of a branch cancelled before its first token
and the drafts of a branch cancelled or stopped early are not counted.
"""

import asyncio
import atexit
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path as FilePath

from pydantic import JsonValue, ValidationError

from branchwise.backends.base import Backend, Capabilities, ExtendRequest, Scores, closed_error
from branchwise.backends.models.names import short_name
from branchwise.backends.models.progress import OnProgress
from branchwise.backends.models.resolve import check, resolve
from branchwise.backends.stream import Ended, Extension
from branchwise.backends.tokenization.detokenizer import Detokenizer
from branchwise.backends.tokenization.prompt import PromptEncoder
from branchwise.backends.vllm.branch import VLLMBranch
from branchwise.backends.vllm.capabilities import EngineInfo
from branchwise.backends.vllm.client import Client
from branchwise.backends.vllm.settings import VLLMSettings
from branchwise.backends.vllm.thread import LoopThread
from branchwise.backends.vllm.tokenizer import load_tokenizer
from branchwise.core.errors import BackendError, ConfigError, MissingExtraError, ModelError, require
from branchwise.core.messages import Messages
from branchwise.core.path import Path, StopReason
from branchwise.core.usage import Usage
from branchwise.core.validation import first_field_error

try:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.lora.request import LoRARequest
    from vllm.v1.engine.async_llm import AsyncLLM

    from branchwise.backends.vllm.branch_runner import BranchRunner
except ImportError as error:
    raise MissingExtraError(error.name or "vllm", "vllm") from error


class VLLMBackend(Backend):
    """A model that vLLM runs. Loading it starts processes: a script needs `if __name__ == "__main__":`."""

    def __init__(
        self,
        client: Client,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        name: str | None = None,
        chat_template: str | None = None,
        template_variables: Mapping[str, JsonValue] | None = None,
        adapter: LoRARequest | None = None,
    ) -> None:
        """Use an engine client that already runs (an `AsyncLLM`); closing the backend leaves it running.

        `loop` is the client's event loop, by default the running one. `chat_template` replaces the model's own,
        `template_variables` are passed to it. `adapter` is a LoRA adapter that the engine can load.

        Raises ModelError for a model without a tokenizer that transformers can read.
        """
        config = client.vllm_config
        default_name = str(adapter.lora_name) if adapter else str(config.model_config.model)
        self._info = EngineInfo.of(config, name or default_name)
        self._template = chat_template, template_variables
        self._prompts = PromptEncoder(load_tokenizer(config.model_config), *self._template)
        self._decoder = self._prompts.tokenizer.backend_tokenizer
        loop = loop or asyncio.get_running_loop()
        self._runner = BranchRunner(client, loop, self._info, adapter)
        self._adapters: Mapping[str, LoRARequest] = {}
        self._thread: LoopThread | None = None  # of an engine that this backend started

    @classmethod
    def load(
        cls, model: str, settings: VLLMSettings | None = None, *, progress: OnProgress = lambda *_: None
    ) -> "VLLMBackend":
        """Start vLLM with a model.

        `model` is a local folder or GGUF file, a name from `branchwise models list`, or a hub id, which vLLM fetches
        itself. Raises ModelError if it cannot be fetched or run, ConfigError for settings that vLLM refuses.
        """
        settings = settings or VLLMSettings()
        check(model)
        short = short_name(model)
        resolvable = short is not None or FilePath(model).expanduser().exists()
        folder = str(resolve(model, progress)) if resolvable else model
        arguments, thread = settings.engine_args(folder), LoopThread()
        try:
            client: Client = thread.call(_start(arguments))
            backend = cls(client, loop=thread.loop, name=short or model)
        except BaseException as error:
            thread.close()
            if isinstance(error, ValidationError):
                raise _settings_error(error) from error
            if isinstance(error, ModelError) or not isinstance(error, Exception):
                raise
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ModelError(f"model: vLLM can't run {model} ({reason})", "its log above says more") from error
        backend._thread = thread
        backend._adapters = {
            adapter.name: LoRARequest(adapter.name, number, adapter.path)
            for number, adapter in enumerate(settings.adapters, 1)
        }
        atexit.register(backend._shut_down)
        return backend

    def adapter(self, name: str) -> "VLLMBackend":
        """Return a backend of the same engine with one of its LoRA adapters; closing it leaves the engine running.

        Raises ConfigError for an adapter that is not in the settings.
        """
        known = ", ".join(self._adapters) or "none"
        require(name in self._adapters, "adapter", f"{name!r} is unknown", f"there are: {known}")
        chat_template, variables = self._template
        return VLLMBackend(
            self._runner.client,
            loop=self._runner.loop,
            chat_template=chat_template,
            template_variables=variables,
            adapter=self._adapters[name],
        )

    @property
    def capabilities(self) -> Capabilities:
        return self._info.capabilities

    async def root(self, messages: Messages, key: int) -> Path:
        self.capabilities.check_prompt(self._prompts.least_tokens(messages), exact=False)
        tokens = await asyncio.to_thread(self._prompts.tokens, messages)
        require(bool(tokens), "question", "has no tokens", "ask something")
        self.capabilities.check_prompt(len(tokens))
        return Path(parent=None, key=key, token_ids=tokens, text="", messages=messages)

    async def tokenize(self, text: str | Messages) -> tuple[int, ...]:
        return self._prompts.tokens(text) if isinstance(text, Messages) else tuple(self._prompts.encode(text))

    def extend(self, request: ExtendRequest) -> Extension:
        runner, tokens, sampling = self._runner, request.path.all_token_ids(), request.sampling
        field = self._info.unsupported_field(sampling)
        if field is not None:
            problem = f"{field}: vLLM does not support {getattr(sampling, field)} here"
            raise BackendError(problem, retryable=False, hint="use temperatures up to 2, and no min_p with speculation")
        room = self.capabilities.context - len(tokens)
        branches: list[VLLMBranch] = []
        extension = Extension(len(request.keys), lambda copy: runner.cancel(branches[copy]) if branches else None)
        if room <= 0:
            for copy in range(len(request.keys)):
                extension.deliver(Ended(copy, StopReason.LENGTH, Usage()))
            return extension
        sampling = replace(sampling, max_tokens=min(sampling.max_tokens or room, room))
        rank = self._info.rank(request.path.root.token_ids)
        for copy, key in enumerate(request.keys):
            branches.append(
                VLLMBranch(
                    extension=extension,
                    copy=copy,
                    key=key,
                    sampling=sampling,
                    detokenizer=Detokenizer(self._decoder, tokens, sampling.stop),
                    prefix=tokens,
                    priority=request.priority,
                    rank=rank,
                    drafter=self._info.drafter,
                )
            )
        runner.start(branches)
        return extension

    async def score(self, path: Path, continuations: Sequence[str]) -> Scores:
        if not self.capabilities.score:
            raise BackendError(
                "score: this engine does not support it", retryable=False, hint="start vLLM with raw logprobs"
            )
        ids = [tuple(self._prompts.encode(text)) for text in continuations]
        tokens, context = path.all_token_ids(), self.capabilities.context
        longest = len(tokens) + max(map(len, ids), default=0)
        require(
            longest < context,
            "continuations",
            f"reach {longest} tokens, the model's context is {context} including one sampled token",
            "cut them",
        )
        rank = self._info.rank(path.root.token_ids)
        work = self._runner.score(tokens, ids, rank)
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._runner.loop)
        except RuntimeError as error:  # the loop is closed
            work.close()
            raise closed_error() from error
        return await asyncio.wrap_future(future)

    async def force(self, path: Path, text: str) -> Path:
        tokens = tuple(self._prompts.encode(text))
        detokenizer = Detokenizer(self._decoder, path.all_token_ids(), ())
        ends = tuple(detokenizer.push(token) for token in tokens)
        return Path(parent=path, key=path.key, token_ids=tokens, text=detokenizer.text, ends=ends, forced=True)

    def release(self, paths: Sequence[Path]) -> None:
        """Do nothing: vLLM evicts the least recently used blocks."""

    def clear(self) -> None:
        """Drop the prefix cache of the whole engine, as soon as nothing runs."""
        self._runner.clear()

    async def close(self) -> None:
        runner = self._runner
        if runner.loop is asyncio.get_running_loop():
            await runner.close()
        elif not runner.loop.is_closed():
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(runner.close(), runner.loop))
        if self._thread is not None:
            atexit.unregister(self._shut_down)
            await asyncio.to_thread(self._shut_down)

    def _shut_down(self) -> None:
        """Stop the engine and its event loop."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._runner.closing = True
            thread.call(_end(self._runner.client))
            thread.close()


async def _start(arguments: AsyncEngineArgs) -> Client:
    """Start the engine in the running event loop."""
    client: Client = AsyncLLM.from_engine_args(arguments)
    return client


async def _end(client: Client) -> None:
    """Stop the engine and its processes, in its event loop."""
    client.shutdown()


def _settings_error(error: ValidationError) -> ConfigError:
    """Return vLLM's first complaint about a setting."""
    first = first_field_error(error)
    return ConfigError(first.field or "settings", f"vLLM refuses it ({first.message})", "use a value that it takes")
