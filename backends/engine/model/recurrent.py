"""Models with recurrent layers: a step takes the state of each row and returns its new state."""

import inspect
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from branchwise.backends.engine.cache.kv_pool import KVPool, SlotIndex
from branchwise.backends.engine.cache.radix_tree import RadixTree
from branchwise.backends.engine.cache.snapshots import State, States, batch_states
from branchwise.backends.engine.model.causal_lm import Capacity, EngineModel, StepOutput
from branchwise.backends.engine.model.hooks import MatrixStateCache, StateCache, state_cache
from branchwise.backends.engine.model.plan import DecodeSequence, Plan, Span
from branchwise.core.errors import ModelError

_MAX_TOKENS = 1 << 20  # without keys and values, a cached token needs no memory in the pool

_REFUSED = {
    "recurrent_gemma": "it keeps its state on its modules, not in the cache",
    "rwkv": "transformers mixes the states of branches that are decoded side by side",
}


def engine_model(network: PreTrainedModel, *, int8: bool = False, deterministic: bool = False) -> EngineModel:
    """Return the network prepared for the engine. Recurrent models are never deterministic.

    Raises ModelError when the engine does not support it.
    """
    reason = _REFUSED.get(network.config.model_type)
    if reason is not None:
        name = type(network).__name__
        raise ModelError(f"{name}: the engine cannot run it: {reason}", "use a model of another architecture")
    cache = state_cache(network)
    if cache is None:
        return EngineModel(network, int8=int8, deterministic=deterministic)
    return RecurrentModel(network, cache, int8=int8)


class _SpanInputs(NamedTuple):
    """The inputs of one span of a step."""

    tokens: Sequence[int]  # [rows]
    positions: Sequence[int]  # [rows]
    span: Span
    state: State | None
    logit_rows: Sequence[int]  # rows of the span whose logits are needed


class RecurrentModel(EngineModel):
    """A network whose cache has more than keys and values.

    Decode rows run as one batch [rows, 1]. Each span runs alone, [1, tokens], because a state must process the tokens
    in order.
    """

    recurrent = True
    single_tokens = False
    """True where tokens after a path's first pass must be computed one at a time."""

    def __init__(
        self, network: PreTrainedModel, cache: type[StateCache] | type[MatrixStateCache], *, int8: bool = False
    ) -> None:
        self._cache = cache
        parameters = inspect.signature(network.forward).parameters
        self._accepted = set(parameters)
        self._accepts_plan = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        self.state_bytes = 0
        """Bytes of the state of one row, independent of the path's length."""
        super().__init__(network, int8=int8)

    def capacity(self, memory: int) -> Capacity:
        """Return what fits into `memory` bytes: half for keys and values, half for states."""
        tokens = min(_MAX_TOKENS, memory // 2 // self._token_bytes)
        return Capacity(max(1, tokens), max(1, memory // 2 // self.state_bytes))

    @torch.inference_mode()
    def step(
        self,
        tokens: Sequence[int],
        positions: Sequence[int],
        plan: Plan,
        logit_rows: Sequence[int],
        states: Sequence[State | None] = (),
    ) -> StepOutput:
        count = len(plan.sequences)
        parts: list[StepOutput] = []
        if count:
            part = Plan(plan.pool, _slots(plan.slot_mapping, 0, count), sequences=plan.sequences)
            batch = batch_states([state for state in states[:count] if state is not None])
            shape = (count, 1)
            parts.append(self._run(tokens[:count], positions[:count], shape, part, batch, range(count)))
        for span, state in zip(plan.spans, states[count:], strict=True):
            rows = [row - span.start for row in logit_rows if span.start <= row < span.end]
            inputs = _SpanInputs(tokens[span.start : span.end], positions[span.start : span.end], span, state, rows)
            parts.append(self._run_span(plan, inputs))
        logits, hidden = (torch.cat(columns) for columns in zip(*((p.logits, p.hidden) for p in parts), strict=True))
        return StepOutput(logits, hidden, [state for part in parts for state in part.states])

    def _run_span(self, plan: Plan, inputs: "_SpanInputs") -> StepOutput:
        tokens, positions, span, state, rows = inputs
        slot_mapping = _slots(plan.slot_mapping, span.start, span.end)
        if state is None or not self.single_tokens or span.rows == 1:
            part = Plan(plan.pool, slot_mapping, spans=[Span(0, span.rows, span.prefix, span.own)])
            batch = None if state is None else batch_states([state])
            return self._run(tokens, positions, (1, span.rows), part, batch, rows)
        outs: list[StepOutput] = []
        for i in range(span.rows):
            prefix = _concatenate(span.prefix, _slots(span.own, 0, i), self.device)
            token_span = Span(0, 1, prefix, _slots(span.own, i, i + 1))
            part = Plan(plan.pool, _slots(slot_mapping, i, i + 1), spans=[token_span])
            outs.append(self._run(tokens[i : i + 1], positions[i : i + 1], (1, 1), part, batch_states([state]), [0]))
            state = outs[-1].states[0]
        logits, hidden = torch.cat([outs[i].logits for i in rows]), torch.cat([outs[i].hidden for i in rows])
        return StepOutput(logits, hidden, [state])

    def _run(
        self,
        tokens: Sequence[int],
        positions: Sequence[int],
        shape: tuple[int, int],
        plan: Plan,
        states: States | None,
        rows: Sequence[int],
    ) -> StepOutput:
        cache = self._cache(self.network, plan, None if states is None else states.tensors, shape[0])
        inputs: dict[str, object] = {
            "input_ids": torch.tensor(tokens, device=self.device).view(shape),
            "position_ids": torch.tensor(positions, device=self.device).view(shape),
            "use_cache": True,
        }
        accepted = {name: value for name, value in inputs.items() if name in self._accepted}
        # Models pass further keyword arguments to their attention layers.
        further = {"plan": plan} if self._accepts_plan else {}
        outputs = self.network(**accepted, **further, **{self._cache_argument: cache})
        after = States(cache.tensors(), overwritable=True)
        index = torch.tensor(rows, device=self.device)
        hidden = self._pop_hidden().flatten(0, 1)[index]
        logits = outputs.logits.flatten(0, 1)[index]
        return StepOutput(logits, hidden, [State(after, row) for row in range(after.rows)])

    def _packed_logits(self, tokens: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return logits and hidden of the last token, after a chunked prefill and a decode step of two forks."""
        out = self._forked(tokens)
        if not self._matches_own(out.logits, tokens):
            self.single_tokens = True  # some models' scans ignore the initial state
            out = self._forked(tokens)
        return out.logits, out.hidden

    def _forked(self, tokens: Sequence[int]) -> StepOutput:
        """Return the output of the last token in two forks of one path."""
        pool = KVPool(len(tokens) + 1, self.device)
        tree = RadixTree(pool.slots)
        cursor = tree.pin(tree.match(()))
        middle, last, first = len(tokens) // 2, len(tokens) - 1, pool.slots.start
        state: State | None = None
        for start, end in ((0, middle), (middle, last)):
            own = slice(first + start, first + end)
            plan = Plan(pool, own, spans=[Span(0, end - start, slice(first, own.start) if start else None, own)])
            out = self.step(tokens[start:end], range(start, end), plan, [end - start - 1], [state])
            state = out.states[0]
            for token in tokens[start:end]:
                tree.advance(cursor, token, first + cursor.depth)
        sequences = [DecodeSequence(cursor.prefix_nodes(), (first + last + fork,)) for fork in range(2)]
        plan = Plan(pool, slice(first + last, first + last + 2), sequences=sequences)
        out = self.step([tokens[last]] * 2, [last] * 2, plan, [0, 1], [state, state])
        self._passes_window = bool(plan.windows)
        self._token_bytes = max(1, pool.token_bytes())
        self.state_bytes = out.states[0].states.row_bytes()
        return out


def _slots(index: SlotIndex, start: int, end: int) -> SlotIndex:
    """Return a part of some slots."""
    return slice(index.start + start, index.start + end) if isinstance(index, slice) else index[start:end]


def _concatenate(first: SlotIndex | None, second: SlotIndex, device: torch.device) -> SlotIndex:
    """Return the slots of both."""
    parts = [
        torch.arange(p.start, p.stop, device=device) if isinstance(p, slice) else p
        for p in (first, second)
        if p is not None
    ]
    return torch.cat(parts)
