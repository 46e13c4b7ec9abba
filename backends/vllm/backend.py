"""vLLM's AsyncLLM as a backend, in this process.

Each branch is a request of its own to vLLM, of one sample, whose prompt is all the tokens of its path: vLLM's prefix
cache computes what they share once, in whole blocks. Text and stop strings are read here, as the embedded engine
reads them.

What the ledger does not know, because vLLM does not say so: who shared a pass (every branch counts each pass it was
in), a prompt's further passes when it is computed in chunks, what was computed again for a branch that had to make
room, what a branch had computed that was cancelled before its first token, and the drafts of a branch that did not
end by itself.
"""

import asyncio
import atexit
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path as FilePath

from pydantic import JsonValue, ValidationError

from branchwise.backends.base import Backend, Capabilities, ExtendRequest, Scores, closed_error
from branchwise.backends.models.catalog import find
from branchwise.backends.models.packages import OnProgress
from branchwise.backends.models.resolve import check, resolve
from branchwise.backends.stream import Ended, Extension
from branchwise.backends.tokenization.detokenizer import TextStream
from branchwise.backends.tokenization.prompt import Prompter
from branchwise.backends.vllm.branch import LiveBranch
from branchwise.backends.vllm.capabilities import Facts
from branchwise.backends.vllm.client import Client
from branchwise.backends.vllm.settings import VLLMSettings
from branchwise.backends.vllm.thread import LoopThread
from branchwise.backends.vllm.tokenizer import load_tokenizer
from branchwise.core.errors import BackendError, ConfigError, MissingExtraError, ModelError, require
from branchwise.core.messages import Messages
from branchwise.core.path import Path, StopReason
from branchwise.core.usage import Usage

try:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.lora.request import LoRARequest
    from vllm.v1.engine.async_llm import AsyncLLM

    from branchwise.backends.vllm.branches import Runs
except ImportError as error:
    raise MissingExtraError(error.name or "vllm", "vllm") from error


class VLLMBackend(Backend):
    """A model that vLLM runs. Starting it starts other processes: a script needs `if __name__ == "__main__":`."""

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
        """Over an engine client that already runs (an `AsyncLLM`); closing the backend leaves it running.

        `loop` is the event loop it belongs to, the running one where it is None. `chat_template` takes the place of
        the model's own, `template_variables` are given to it.
        `adapter`: a LoRA adapter that the engine can load. Raises ModelError for a model without a tokenizer that
        transformers can read.
        """
        config = client.vllm_config
        self._facts = Facts.of(config, name or (str(adapter.lora_name) if adapter else str(config.model_config.model)))
        self._template = chat_template, template_variables
        self._prompter = Prompter(load_tokenizer(config.model_config), *self._template)
        self._decoder = self._prompter.tokenizer.backend_tokenizer
        loop = loop or asyncio.get_running_loop()
        self._runs = Runs(client, loop, self._facts, adapter)
        self._adapters: Mapping[str, LoRARequest] = {}
        self._thread: LoopThread | None = None  # where the engine is this backend's own

    @classmethod
    def load(
        cls, model: str, settings: VLLMSettings | None = None, *, progress: OnProgress = lambda *_: None
    ) -> "VLLMBackend":
        """vLLM with a model: a local folder or GGUF file, a name from `branchwise models list`, or a hub id, which
        vLLM fetches itself.

        Raises ModelError when it can't be had or run, ConfigError for settings that vLLM refuses.
        """
        settings = settings or VLLMSettings()
        check(model)
        entry = find(model)
        ours = entry is not None or FilePath(model).expanduser().exists()
        folder = str(resolve(model, progress)) if ours else model
        arguments, thread = settings.engine_args(folder), LoopThread()
        try:
            client: Client = thread.call(_start(arguments))
            backend = cls(client, loop=thread.loop, name=entry.name if entry else model)
        except BaseException as error:
            thread.close()
            if isinstance(error, ValidationError):
                raise _refused(error) from error
            if isinstance(error, ModelError) or not isinstance(error, Exception):
                raise
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ModelError(f"model: vLLM can't run {model} ({reason})", "its log above says more") from error
        backend._thread = thread
        backend._adapters = {
            one.name: LoRARequest(one.name, number, one.path) for number, one in enumerate(settings.adapters, 1)
        }
        atexit.register(backend._shut_down)
        return backend

    def adapter(self, name: str) -> "VLLMBackend":
        """The model with one of its LoRA adapters, over the same engine, which closing it leaves running.

        Raises ConfigError for an adapter that the settings don't have.
        """
        known = ", ".join(self._adapters) or "none"
        require(name in self._adapters, "adapter", f"{name!r} is unknown", f"there are: {known}")
        chat_template, variables = self._template
        return VLLMBackend(
            self._runs.client,
            loop=self._runs.loop,
            chat_template=chat_template,
            template_variables=variables,
            adapter=self._adapters[name],
        )

    @property
    def capabilities(self) -> Capabilities:
        return self._facts.capabilities

    async def root(self, messages: Messages, key: int) -> Path:
        tokens = self._prompter.tokens(messages)
        require(bool(tokens), "question", "has no tokens", "ask something")
        self.capabilities.check_prompt(len(tokens))
        return Path(parent=None, key=key, token_ids=tokens, text="", messages=messages)

    def extend(self, request: ExtendRequest) -> Extension:
        runs, tokens, sampling = self._runs, request.path.all_token_ids(), request.sampling
        field = self._facts.refused(sampling)
        if field is not None:
            problem = f"{field}: vLLM takes none of {getattr(sampling, field)} here"
            raise BackendError(problem, retryable=False, hint="use temperatures up to 2, and no min_p with speculation")
        room = self.capabilities.context - len(tokens)
        branches: list[LiveBranch] = []
        extension = Extension(len(request.keys), lambda copy: runs.cancel(branches[copy]) if branches else None)
        if room <= 0:
            for copy in range(len(request.keys)):
                extension.deliver(Ended(copy, StopReason.LENGTH, Usage()))
            return extension
        sampling = replace(sampling, max_tokens=min(sampling.max_tokens or room, room))
        rank = self._facts.rank(request.path.root.token_ids)
        for copy, key in enumerate(request.keys):
            text = TextStream(self._decoder, tokens, sampling.stop)
            branches.append(
                LiveBranch(extension, copy, key, sampling, text, tokens, request.priority, rank, self._facts.drafter)
            )
        runs.start(branches)
        return extension

    async def score(self, path: Path, continuations: Sequence[str]) -> Scores:
        if not self.capabilities.score:
            raise BackendError("score: this engine can't", retryable=False, hint="start vLLM with raw logprobs")
        ids = [tuple(self._prompter.encode(text)) for text in continuations]
        tokens, context = path.all_token_ids(), self.capabilities.context
        longest = len(tokens) + max(map(len, ids), default=0)
        require(
            longest < context,
            "continuations", f"reach {longest} tokens, the model's context is {context} with one to draw", "cut them",
        )  # fmt: skip
        rank = self._facts.rank(path.root.token_ids)
        work = self._runs.score(tokens, ids, rank)
        try:
            there = asyncio.run_coroutine_threadsafe(work, self._runs.loop)
        except RuntimeError as error:  # the loop is gone
            work.close()
            raise closed_error() from error
        return await asyncio.wrap_future(there)

    async def force(self, path: Path, text: str) -> Path:
        tokens = tuple(self._prompter.encode(text))
        stream = TextStream(self._decoder, path.all_token_ids(), ())
        ends = tuple(stream.push(token) for token in tokens)
        return Path(parent=path, key=path.key, token_ids=tokens, text=stream.text, ends=ends, forced=True)

    def release(self, paths: Sequence[Path]) -> None:
        """Nothing: vLLM lets go first what was used longest ago."""

    def clear(self) -> None:
        """Drop the prefix cache, also what others of this engine have there; vLLM does so only while nothing runs."""
        self._runs.clear()

    async def close(self) -> None:
        runs = self._runs
        if runs.loop is asyncio.get_running_loop():
            await runs.close()
        elif not runs.loop.is_closed():
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(runs.close(), runs.loop))
        if self._thread is not None:
            atexit.unregister(self._shut_down)
            await asyncio.to_thread(self._shut_down)

    def _shut_down(self) -> None:
        """End the engine and its event loop."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._runs.closing = True
            thread.call(_end(self._runs.client))
            thread.close()


async def _start(arguments: AsyncEngineArgs) -> Client:
    """The engine, in the event loop that runs this."""
    client: Client = AsyncLLM.from_engine_args(arguments)
    return client


async def _end(client: Client) -> None:
    """End the engine and its processes, in its event loop."""
    client.shutdown()


def _refused(error: ValidationError) -> ConfigError:
    """What vLLM says about a setting."""
    first = error.errors(include_url=False)[0]
    field = ".".join(map(str, first["loc"])) or "settings"
    return ConfigError(field, f"vLLM refuses it ({first['msg']})", "use a value that it takes")
