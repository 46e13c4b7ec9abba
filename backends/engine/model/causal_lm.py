"""A transformers causal LM, loaded for the engine, checked, and run one packed step at a time."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from branchwise.backends.engine.cache.kv_pool import Pool
from branchwise.backends.engine.cache.radix_tree import TokenTree
from branchwise.backends.engine.cache.snapshots import State
from branchwise.backends.engine.model.cuda_graphs import FixedSteps
from branchwise.backends.engine.model.hooks import ATTENTION, PoolCache, cache_name
from branchwise.backends.engine.model.linears import pack, quantize
from branchwise.backends.engine.model.llama import LlamaDecoder
from branchwise.backends.engine.model.plan import Plan, Span, Tip
from branchwise.core.errors import ModelError

_CHECK_TOKENS = 12  # of the check at load: two chunks and a decoding step


class Output(NamedTuple):
    """What a packed pass computed for the rows it was asked for."""

    logits: Tensor  # [wanted, vocabulary]
    hidden: Tensor  # [wanted, hidden_size] what the output head read
    states: Sequence[State] = ()  # [decoding rows + spans] of a recurrent model


class Room(NamedTuple):
    """How much may be held."""

    tokens: int
    states: int  # snapshots of recurrent state


class EngineModel:
    """The network and its output head, with logits for any held token without a second pass."""

    recurrent = False
    """Whether a path is more than its tokens: then it goes on only from where its state was kept."""

    def __init__(self, network: PreTrainedModel, *, int8: bool = False) -> None:
        """Swaps the network's attention and linear layers. `int8`: weights rounded to 8 bits.

        Raises ModelError when the engine would not compute what the model itself computes.
        """
        network.set_attn_implementation(ATTENTION)
        if network.config._attn_implementation != ATTENTION:
            raise ModelError(
                f"{type(network).__name__}: its attention layers cannot be exchanged",
                "use a model that transformers runs through its attention interface (Llama, Qwen, Mistral, Gemma, ...)",
            )
        quantize(network) if int8 else pack(network)
        self.network = network.eval().requires_grad_(False)
        self.device = network.device
        self.vocabulary = int(network.config.get_text_config().vocab_size)
        self._cache_name = cache_name(network)
        self._head = network.get_output_embeddings()
        self._decoder = LlamaDecoder.of(network)
        self._fixed: FixedSteps | None = None
        self._read: Tensor | None = None
        self._head.register_forward_pre_hook(self._remember)
        self._softcap = getattr(network.config.get_text_config(), "final_logit_softcapping", None)
        self.can_reread = True  # whether logits can be had from what the head read
        self._token_bytes = 0
        self._windowed = False  # whether layers tell the attention function their window
        self._check()

    @property
    def context(self) -> int:
        """Most tokens of a path."""
        config = self.network.config.get_text_config()
        limit = getattr(config, "max_position_embeddings", 1 << 20)
        if not self._windowed and set(getattr(config, "layer_types", None) or ("unknown",)) != {"full_attention"}:
            # A window that lives in the model's own mask only is not seen here: stay inside it.
            windows = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
            limit = min([limit, *filter(None, windows)])
        rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
        if rope.get("rope_type") == "longrope":
            # Beyond it transformers changes the frequencies of the whole step: one long branch would
            # change what its neighbours say.
            original = rope.get("original_max_position_embeddings") or config.original_max_position_embeddings
            limit = min(limit, original)
        return int(limit)

    def token_bytes(self) -> int:
        """Bytes one held token takes in the pools."""
        return self._token_bytes

    def room(self, memory: int) -> Room:
        """What may be held in so many bytes."""
        return Room(tokens=max(1, memory // self._token_bytes), states=0)

    def fix_shapes(self, pool: Pool) -> None:
        """Compute decoding steps over `pool` by fixed shapes, where the network is of a family that can."""
        if self._decoder is not None:
            self._fixed = FixedSteps(self._decoder, self._head, pool)

    @torch.inference_mode()
    def step(
        self,
        tokens: Sequence[int],
        positions: Sequence[int],
        plan: Plan,
        wanted: Sequence[int],
        states: Sequence[State | None] = (),
    ) -> Output:
        """One packed pass; `wanted` are the rows whose logits are asked for. `states` [decoding rows + spans]
        are a recurrent model's, None at the start of a path."""
        if self._fixed is not None and self._fixed.pool is plan.pool and not plan.spans:
            computed = self._fixed.compute(tokens, positions, plan)
            if computed is not None:
                return Output(*computed)
        ids, at = torch.tensor(tokens, device=self.device), torch.tensor(positions, device=self.device)
        if self._decoder is not None:
            hidden = self._decoder(ids, at, plan, wanted)
            return Output(self._head(hidden), hidden)
        outputs = self.network(
            input_ids=ids[None],
            position_ids=at[None],
            use_cache=True,
            logits_to_keep=torch.tensor(wanted, device=self.device),
            plan=plan,
            **{self._cache_name: PoolCache(plan)},
        )
        return Output(outputs.logits[0], self._taken()[0])

    @property
    def skippable(self) -> int:
        """Layers that `skipping` can do without; 0 where the network is of a family that cannot."""
        return 0 if self._decoder is None else len(self._decoder)

    @torch.inference_mode()
    def skipping(self, tokens: Sequence[int], positions: Sequence[int], plan: Plan, layers: Sequence[int]) -> Tensor:
        """Logits [rows, vocabulary] of a pass through some layers only, for every row."""
        assert self._decoder is not None
        ids, at = torch.tensor(tokens, device=self.device), torch.tensor(positions, device=self.device)
        logits: Tensor = self._head(self._decoder(ids, at, plan, range(len(tokens)), layers))
        return logits

    @torch.inference_mode()
    def logits_of(self, hidden: Tensor) -> Tensor:
        """Logits [rows, vocabulary] of what the head read [rows, hidden_size]."""
        logits: Tensor = self._head(hidden)
        if self._softcap is not None:
            logits = torch.tanh(logits / self._softcap) * self._softcap
        return logits

    def _taken(self) -> Tensor:
        """What the output head read in the last pass."""
        assert self._read is not None
        read, self._read = self._read, None
        return read

    def _remember(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._read = inputs[0]

    def _check(self) -> None:
        """Compare the packed, cached, forked computation with the model's own full pass."""
        tokens = [(7 * i + 3) % self.vocabulary for i in range(_CHECK_TOKENS)]
        name = type(self.network).__name__
        try:
            ours, held = self._packed_logits(tokens)
        except (AttributeError, RuntimeError, TypeError, ValueError, LookupError, AssertionError) as error:
            raise ModelError(
                f"{name}: this architecture does not run through transformers' attention interface ({error})",
                "use a model with standard attention layers (Llama, Qwen, Mistral, Gemma, GPT-2, ...)",
            ) from error
        self.can_reread = not self.recurrent and _gap(self.logits_of(held), ours) < _tolerance(ours.dtype)
        if not self._agrees(ours, tokens):
            gap = _gap(ours, self._own_logits(tokens))
            raise ModelError(
                f"{name}: the engine's logits differ from the model's own by {gap:.1%}",
                "this architecture keeps state the engine does not handle yet; use one with standard attention layers",
            )

    def _agrees(self, ours: Tensor, tokens: Sequence[int]) -> bool:
        """Whether logits [rows, vocabulary] after the tokens are the model's own."""
        return _gap(ours, self._own_logits(tokens).expand_as(ours)) < _tolerance(ours.dtype)

    def _packed_logits(self, tokens: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Logits of the last token, after a chunked prefill and one decoding step; and what the head read."""
        pool = Pool(len(tokens), self.device)
        tree = TokenTree(pool.slots)
        cursor = tree.pin(tree.match(()))
        middle, last, first = len(tokens) // 2, len(tokens) - 1, pool.slots.start
        for start, end in ((0, middle), (middle, last)):
            own = slice(first + start, first + end)
            plan = Plan(pool, own, spans=[Span(0, end - start, slice(first, own.start) if start else None, own)])
            self.step(tokens[start:end], range(start, end), plan, [end - start - 1])
            for token in tokens[start:end]:
                tree.advance(cursor, token, first + cursor.depth)
        plan = Plan(pool, slice(first + last, first + last + 1), tips=[Tip(cursor.chain(), (first + last,))])
        out = self.step(tokens[last:], [last], plan, [0])
        self._windowed = bool(plan.windows)
        # Measured, as configurations name their heads in too many ways.
        self._token_bytes = pool.token_bytes() + out.hidden.numel() * out.hidden.element_size()
        return out.logits, out.hidden

    @torch.inference_mode()
    def _own_logits(self, tokens: Sequence[int]) -> Tensor:
        """Logits [1, vocabulary] of the last token, computed by the model's own attention without a cache."""
        self.network.set_attn_implementation(exact_attention(self.network))
        try:
            outputs = self.network(input_ids=torch.tensor([tokens], device=self.device), use_cache=False)
        finally:
            self.network.set_attn_implementation(ATTENTION)
        logits: Tensor = outputs.logits[0, -1:]
        return logits


def _gap(ours: Tensor, theirs: Tensor) -> float:
    """Distance of two sets of logits, relative to the spread of the second."""
    spread = (theirs - theirs.mean()).float().norm().clamp(min=1e-30)
    return float((ours - theirs).float().norm() / spread)


def exact_attention(network: PreTrainedModel) -> str:
    """The name of transformers' attention that rounds least.

    "eager" does all that a model asks for, but rounds scores to the model's type: in bfloat16 the large keys of
    Qwen2.5 1.5B put its logits off by 23%, where "sdpa", which sums in float32, is off by 2%.
    """
    capped = getattr(network.config.get_text_config(), "attn_logit_softcapping", None) is not None
    short = network.dtype in (torch.bfloat16, torch.float16)
    return "sdpa" if short and not capped and getattr(network, "_supports_sdpa", False) else "eager"


def _tolerance(dtype: torch.dtype) -> float:
    """How far apart summing in another order may put logits."""
    # Norms and softmax run in float32 inside float64 models, too.
    return {torch.float64: 1e-5, torch.float32: 1e-4}.get(dtype, 0.1)


def load_network(folder: Path, dtype: torch.dtype | None, device: torch.device) -> PreTrainedModel:
    """The causal LM in `folder`. Raises ModelError when there is none, or it can't be loaded."""
    transformers_logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(folder)
        if dtype is None:
            dtype = _usual_dtype(config, device)
        network = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation=ATTENTION, local_files_only=True
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = re.sub(r"\s+", " ", str(error)).strip()
        raise ModelError(
            f"model: cannot load {folder} ({reason[:300]})",
            "use a folder with config.json, safetensors weights and tokenizer files",
        ) from error
    nn.Module.to(network, device)
    return network


def usual_dtype(folder: Path, device: torch.device) -> torch.dtype:
    """The type the model in `folder` is run in where none is asked for."""
    return _usual_dtype(AutoConfig.from_pretrained(folder), device)


def _usual_dtype(config: object, device: torch.device) -> torch.dtype:
    """The checkpoint's own type, but float32 where the processor has no fast bfloat16."""
    stored: torch.dtype | None = getattr(config, "dtype", None)
    if stored is None or stored not in (torch.float16, torch.bfloat16):
        return torch.float32
    if device.type != "cpu":
        return stored
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32
