"""Models with recurrent layers: each row brings its state, and takes a new one away."""

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from branchwise.backends.engine.cache.kv_pool import Index, Pool
from branchwise.backends.engine.cache.radix_tree import TokenTree
from branchwise.backends.engine.cache.snapshots import State, States, side_by_side
from branchwise.backends.engine.model.causal_lm import EngineModel, Output, Room
from branchwise.backends.engine.model.hooks import MatrixStateCache, StateCache, state_cache
from branchwise.backends.engine.model.plan import Plan, Span, Tip
from branchwise.core.errors import ModelError

_MOST_TOKENS = 1 << 20  # without keys and values a held token takes no memory but its number

_REFUSED = {
    "recurrent_gemma": "it keeps its state on its modules, not in the cache",
    "rwkv": "transformers mixes the states of branches that are decoded side by side",
}


def engine_model(network: PreTrainedModel, *, int8: bool = False) -> EngineModel:
    """The network, ready for the engine. Raises ModelError for one the engine would not compute rightly."""
    reason = _REFUSED.get(network.config.model_type)
    if reason is not None:
        name = type(network).__name__
        raise ModelError(f"{name}: the engine cannot run it: {reason}", "use a model of another architecture")
    cache = state_cache(network)
    return EngineModel(network, int8=int8) if cache is None else RecurrentModel(network, cache, int8=int8)


class RecurrentModel(EngineModel):
    """A network whose cache keeps more than keys and values. Decoding rows run side by side, [rows, 1]; each span
    runs alone, [1, tokens], as a state goes through its tokens in order."""

    recurrent = True
    one_by_one = False
    """Whether tokens after a path's first pass must be computed one at a time."""

    def __init__(
        self, network: PreTrainedModel, cache: type[StateCache] | type[MatrixStateCache], *, int8: bool = False
    ) -> None:
        self._cache = cache
        parameters = inspect.signature(network.forward).parameters
        self._accepted = set(parameters)
        self._passes_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        self.state_bytes = 0
        """Bytes of the state of one row, whatever its length."""
        super().__init__(network, int8=int8)

    def room(self, memory: int) -> Room:
        """Half for keys and values, where there are any, and half for states."""
        tokens = min(_MOST_TOKENS, memory // 2 // self._token_bytes)
        return Room(max(1, tokens), max(1, memory // 2 // self.state_bytes))

    @torch.inference_mode()
    def step(
        self,
        tokens: Sequence[int],
        positions: Sequence[int],
        plan: Plan,
        wanted: Sequence[int],
        states: Sequence[State | None] = (),
    ) -> Output:
        count = len(plan.tips)
        parts: list[Output] = []
        if count:
            part = Plan(plan.pool, _slots(plan.written, 0, count), tips=plan.tips)
            held = side_by_side([state for state in states[:count] if state is not None])
            shape = (count, 1)
            parts.append(self._run(tokens[:count], positions[:count], shape, part, held, range(count)))
        for span, state in zip(plan.spans, states[count:], strict=True):
            rows = [row - span.start for row in wanted if span.start <= row < span.end]
            at = slice(span.start, span.end)
            parts.append(self._run_span(tokens[at], positions[at], plan, span, state, rows))
        logits, hidden = (torch.cat(columns) for columns in zip(*((p.logits, p.hidden) for p in parts), strict=True))
        return Output(logits, hidden, [state for part in parts for state in part.states])

    def _run_span(
        self,
        tokens: Sequence[int],
        positions: Sequence[int],
        plan: Plan,
        span: Span,
        state: State | None,
        rows: Sequence[int],
    ) -> Output:
        written = _slots(plan.written, span.start, span.end)
        if state is None or not self.one_by_one or span.rows == 1:
            part = Plan(plan.pool, written, spans=[Span(0, span.rows, span.before, span.own)])
            held = None if state is None else side_by_side([state])
            return self._run(tokens, positions, (1, span.rows), part, held, rows)
        outs: list[Output] = []
        for i in range(span.rows):
            before = _joined(span.before, _slots(span.own, 0, i), self.device)
            own = Span(0, 1, before, _slots(span.own, i, i + 1))
            part = Plan(plan.pool, _slots(written, i, i + 1), spans=[own])
            outs.append(self._run(tokens[i : i + 1], positions[i : i + 1], (1, 1), part, side_by_side([state]), [0]))
            state = outs[-1].states[0]
        logits, hidden = torch.cat([outs[i].logits for i in rows]), torch.cat([outs[i].hidden for i in rows])
        return Output(logits, hidden, [state])

    def _run(
        self,
        tokens: Sequence[int],
        positions: Sequence[int],
        shape: tuple[int, int],
        plan: Plan,
        states: States | None,
        rows: Sequence[int],
    ) -> Output:
        cache = self._cache(self.network, plan, None if states is None else states.tensors, shape[0])
        inputs: dict[str, object] = {
            "input_ids": torch.tensor(tokens, device=self.device).view(shape),
            "position_ids": torch.tensor(positions, device=self.device).view(shape),
            "use_cache": True,
        }
        named = {name: value for name, value in inputs.items() if name in self._accepted}
        # The plan reaches attention layers through the arguments that models pass on.
        further = {"plan": plan} if self._passes_on else {}
        outputs = self.network(**named, **further, **{self._cache_name: cache})
        after = States(cache.tensors(), fleeting=True)
        index = torch.tensor(rows, device=self.device)
        hidden = self._taken().flatten(0, 1)[index]
        return Output(outputs.logits.flatten(0, 1)[index], hidden, [State(after, row) for row in range(after.rows)])

    def _packed_logits(self, tokens: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Logits of the last token, after a prefill in two chunks and one decoding step of two forks."""
        out = self._forked(tokens)
        if not self._agrees(out.logits, tokens):
            self.one_by_one = True  # some models' scans begin without the state that is there
            out = self._forked(tokens)
        return out.logits, out.hidden

    def _forked(self, tokens: Sequence[int]) -> Output:
        """Logits [2, vocabulary] of two forks of one path."""
        pool = Pool(len(tokens) + 1, self.device)
        tree = TokenTree(pool.slots)
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
        tips = [Tip(cursor.chain(), (first + last,)), Tip(cursor.chain(), (first + last + 1,))]
        plan = Plan(pool, slice(first + last, first + last + 2), tips=tips)
        out = self.step([tokens[last]] * 2, [last] * 2, plan, [0, 1], [state, state])
        self._windowed = bool(plan.windows)
        self._token_bytes = max(1, pool.token_bytes())
        self.state_bytes = out.states[0].states.bytes()
        return out


def _slots(index: Index, start: int, end: int) -> Index:
    """A part of some slots."""
    return slice(index.start + start, index.start + end) if isinstance(index, slice) else index[start:end]


def _joined(before: Index | None, after: Index, device: torch.device) -> Index:
    """Slots after slots."""
    parts = [
        torch.arange(p.start, p.stop, device=device) if isinstance(p, slice) else p
        for p in (before, after)
        if p is not None
    ]
    return torch.cat(parts)
