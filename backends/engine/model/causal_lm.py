"""A transformers causal LM prepared for the engine: checked at load, then run one packed step at a time.

The batch and the draft model call `step` with a plan; `recurrent` extends this class for models with recurrent layers.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from branchwise.backends.engine.cache.kv_pool import KVPool
from branchwise.backends.engine.cache.radix_tree import RadixTree
from branchwise.backends.engine.cache.snapshots import State
from branchwise.backends.engine.model.cuda_graphs import CudaGraphRunner
from branchwise.backends.engine.model.hooks import ATTENTION, PoolCache, cache_argument
from branchwise.backends.engine.model.invariance import make_rows_independent
from branchwise.backends.engine.model.linears import pack, quantize
from branchwise.backends.engine.model.llama import LlamaDecoder
from branchwise.backends.engine.model.plan import DecodeSequence, Plan, Span
from branchwise.backends.engine.model.reference import reference_attention, relative_gap, tolerance
from branchwise.core.errors import ModelError

_CHECK_TOKENS = 12  # tokens of the check at load: two prefill chunks and a decode step


class StepOutput(NamedTuple):
    """The output of a packed pass for the rows whose logits were requested."""

    logits: Tensor  # [logit_rows, vocabulary]
    hidden: Tensor  # [logit_rows, hidden_size] inputs of the output head
    states: Sequence[State] = ()  # [decode rows + spans] of a recurrent model


class Capacity(NamedTuple):
    """The number of tokens and snapshots that fit into the cache."""

    tokens: int
    states: int  # snapshots of recurrent state


class EngineModel:
    """A causal LM and its output head, run over the KV pool."""

    recurrent = False
    """True for a model with recurrent state: a path then continues only from its cursor or a snapshot."""

    def __init__(self, network: PreTrainedModel, *, int8: bool = False, deterministic: bool = False) -> None:
        """Swap the network's attention and linear layers. `int8`: round the weights to 8 bits.

        `deterministic`: compute each row independently of the other rows of its step, where that is supported.

        Raises ModelError when the engine's logits differ from the model's own.
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
        self._cache_argument = cache_argument(network)
        supported = deterministic and not int8 and self.device.type == "cpu" and LlamaDecoder.supports(network)
        self.deterministic = supported and make_rows_independent(network) and LlamaDecoder(network).attends_alike()
        """True if a row's value depends on nothing but its path."""
        self._head = network.get_output_embeddings()
        self._decoder = LlamaDecoder(network) if LlamaDecoder.supports(network) else None
        self._cuda_graphs: CudaGraphRunner | None = None
        self._hidden: Tensor | None = None
        self._head.register_forward_pre_hook(self._capture_hidden)
        self._softcap = getattr(network.config.get_text_config(), "final_logit_softcapping", None)
        self.logits_from_hidden = True  # whether the output head alone computes logits from its stored input
        self._token_bytes = 0
        self._passes_window = False  # whether layers pass their window to the attention function
        self._check()

    @property
    def context(self) -> int:
        """Maximum number of tokens of a path."""
        config = self.network.config.get_text_config()
        limit = getattr(config, "max_position_embeddings", 1 << 20)
        if not self._passes_window and set(getattr(config, "layer_types", None) or ("unknown",)) != {"full_attention"}:
            # A window that only the model's own mask applies is unknown here: paths must fit into it.
            windows = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
            limit = min([limit, *filter(None, windows)])
        rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
        if rope.get("rope_type") == "longrope":
            # Beyond the original context transformers changes the frequencies of the whole step, so one long branch
            # would change the tokens of the others.
            original = rope.get("original_max_position_embeddings") or config.original_max_position_embeddings
            limit = min(limit, original)
        return int(limit)

    def token_bytes(self) -> int:
        """Return the bytes of one cached token."""
        return self._token_bytes

    def capacity(self, memory: int) -> Capacity:
        """Return what fits into `memory` bytes."""
        return Capacity(tokens=max(1, memory // self._token_bytes), states=0)

    def enable_cuda_graphs(self, pool: KVPool) -> None:
        """Run decode steps over `pool` by CUDA graphs, if the network is of a supported family."""
        if self._decoder is not None:
            self._cuda_graphs = CudaGraphRunner(self._decoder, self._head, pool)

    @torch.inference_mode()
    def step(
        self,
        tokens: Sequence[int],
        positions: Sequence[int],
        plan: Plan,
        logit_rows: Sequence[int],
        states: Sequence[State | None] = (),
    ) -> StepOutput:
        """Run one packed pass over `tokens` [rows] at `positions` [rows]. Return logits of `logit_rows`.

        `states` [decode rows + spans] are those of a recurrent model, None at the start of a path.
        """
        plan.fixed_tiles = self.deterministic
        if self._cuda_graphs is not None and self._cuda_graphs.pool is plan.pool and not plan.spans:
            computed = self._cuda_graphs.run(tokens, positions, plan)
            if computed is not None:
                return StepOutput(*computed)
        ids, at = torch.tensor(tokens, device=self.device), torch.tensor(positions, device=self.device)
        if self._decoder is not None:
            hidden = self._decoder(ids, at, plan, logit_rows)
            return StepOutput(self._head(hidden), hidden)
        outputs = self.network(
            input_ids=ids[None],
            position_ids=at[None],
            use_cache=True,
            logits_to_keep=torch.tensor(logit_rows, device=self.device),
            plan=plan,
            **{self._cache_argument: PoolCache(plan)},
        )
        return StepOutput(outputs.logits[0], self._pop_hidden()[0])

    @property
    def skippable_layers(self) -> int:
        """Number of layers that `step_layers` can skip; 0 if the network is not of a supported family."""
        return 0 if self._decoder is None else len(self._decoder)

    @torch.inference_mode()
    def step_layers(self, tokens: Sequence[int], positions: Sequence[int], plan: Plan, layers: Sequence[int]) -> Tensor:
        """Return logits [rows, vocabulary] of a pass through some layers only, for every row."""
        assert self._decoder is not None
        ids, at = torch.tensor(tokens, device=self.device), torch.tensor(positions, device=self.device)
        logits: Tensor = self._head(self._decoder(ids, at, plan, range(len(tokens)), layers))
        return logits

    @torch.inference_mode()
    def logits_of(self, hidden: Tensor) -> Tensor:
        """Return logits [rows, vocabulary] for inputs of the output head [rows, hidden_size]."""
        logits: Tensor = self._head(hidden)
        if self._softcap is not None:
            logits = torch.tanh(logits / self._softcap) * self._softcap
        return logits

    def _pop_hidden(self) -> Tensor:
        """Return the output head's input in the last pass."""
        assert self._hidden is not None
        hidden, self._hidden = self._hidden, None
        return hidden

    def _capture_hidden(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._hidden = inputs[0]

    def _check(self) -> None:
        """Compare the packed, cached and forked computation with the model's own full pass."""
        tokens = [(7 * i + 3) % self.vocabulary for i in range(_CHECK_TOKENS)]
        name = type(self.network).__name__
        try:
            ours, hidden = self._packed_logits(tokens)
        except (AttributeError, RuntimeError, TypeError, ValueError, LookupError, AssertionError) as error:
            raise ModelError(
                f"{name}: this architecture does not run through transformers' attention interface ({error})",
                "use a model with standard attention layers (Llama, Qwen, Mistral, Gemma, GPT-2, ...)",
            ) from error
        self.logits_from_hidden = not self.recurrent and self._head_reproduces(ours, hidden)
        if not self._matches_own(ours, tokens):
            gap = relative_gap(ours, self._own_logits(tokens))
            raise ModelError(
                f"{name}: the engine's logits differ from the model's own by {gap:.1%}",
                "this architecture keeps state the engine does not handle yet; use one with standard attention layers",
            )

    def _head_reproduces(self, logits: Tensor, hidden: Tensor) -> bool:
        """Return whether the output head alone computes these logits from its input."""
        return relative_gap(self.logits_of(hidden), logits) < tolerance(logits.dtype)

    def _matches_own(self, ours: Tensor, tokens: Sequence[int]) -> bool:
        """Return whether logits [rows, vocabulary] after the tokens are the model's own."""
        return relative_gap(ours, self._own_logits(tokens).expand_as(ours)) < tolerance(ours.dtype)

    def _packed_logits(self, tokens: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return logits and hidden of the last token, after a prefill in two chunks and one decode step."""
        pool = KVPool(len(tokens), self.device)
        tree = RadixTree(pool.slots)
        cursor = tree.pin(tree.match(()))
        middle, last, first = len(tokens) // 2, len(tokens) - 1, pool.slots.start
        for start, end in ((0, middle), (middle, last)):
            own = slice(first + start, first + end)
            plan = Plan(pool, own, spans=[Span(0, end - start, slice(first, own.start) if start else None, own)])
            self.step(tokens[start:end], range(start, end), plan, [end - start - 1])
            for token in tokens[start:end]:
                tree.advance(cursor, token, first + cursor.depth)
        sequence = DecodeSequence(cursor.prefix_nodes(), (first + last,))
        plan = Plan(pool, slice(first + last, first + last + 1), sequences=[sequence])
        out = self.step(tokens[last:], [last], plan, [0])
        self._passes_window = bool(plan.windows)
        # Measured, because configurations name their head counts and sizes in too many ways.
        self._token_bytes = pool.token_bytes() + out.hidden.numel() * out.hidden.element_size()
        return out.logits, out.hidden

    @torch.inference_mode()
    def _own_logits(self, tokens: Sequence[int]) -> Tensor:
        """Return logits [1, vocabulary] of the last token, by the model's own attention without a cache."""
        self.network.set_attn_implementation(reference_attention(self.network))
        try:
            outputs = self.network(input_ids=torch.tensor([tokens], device=self.device), use_cache=False)
        finally:
            self.network.set_attn_implementation(ATTENTION)
        logits: Tensor = outputs.logits[0, -1:]
        return logits
