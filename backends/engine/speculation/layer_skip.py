"""Drafts by the target itself, with some of its layers left out (Zhang et al. 2023, arXiv 2309.08168)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from branchwise.backends.engine.cache.kv_pool import Pool
from branchwise.backends.engine.cache.node import Place, Run
from branchwise.backends.engine.cache.radix_tree import TokenTree
from branchwise.backends.engine.model.causal_lm import EngineModel
from branchwise.backends.engine.model.plan import Plan, Tip, index_of
from branchwise.backends.engine.speculation.chain import Chain, ChainDrafter
from branchwise.backends.engine.speculation.drafter import Ask


class LayerSkip(ChainDrafter):
    """The layers that run read the keys and values that the whole target left there. What they leave themselves is in
    slots of its own, which are given back before the target verifies."""

    name = "layer-skip"

    def __init__(
        self,
        model: EngineModel,
        tree: TokenTree,
        pool: Pool,
        layers: Sequence[int],
        seconds: Callable[[int], float],
        *,
        rejection: bool,
    ) -> None:
        """`layers`: those that run; `seconds`: of a step of them over so many branches."""
        super().__init__(rejection=rejection)
        self._model, self._tree, self._pool, self._layers = model, tree, pool, layers
        self._seconds = seconds
        self._slots: list[list[int]] = []  # of each chain, those it has not come to
        self._held: list[Run] = []  # of each chain, what it has behind it

    def seconds(self, branches: int) -> float:
        return self._seconds(branches)

    @contextmanager
    def _begun(self, asks: Sequence[Ask]) -> Iterator[Sequence[Chain]]:
        depth = max(ask.budget for ask in asks)
        slots = self._tree.allocate(len(asks) * depth)
        if slots is None:
            yield ()
            return
        chains: list[Chain] = []
        for ask in asks:
            assert ask.branch.cursor is not None
            chains.append(Chain(ask, ask.branch.drawn[-1], ask.branch.cursor.depth))
        self._slots = [slots[start : start + depth] for start in range(0, len(slots), depth)]
        self._held = [Run(None, chain.position) for chain in chains]
        try:
            yield chains
        finally:
            self._tree.free(slots)

    def _logits(self, chains: Sequence[Chain]) -> Tensor:
        tips: list[Tip] = []
        written: list[int] = []
        for chain, run, slots in zip(chains, self._held, self._slots, strict=True):
            cursor = chain.ask.branch.cursor
            assert cursor is not None
            before = [*cursor.chain(), *([Place(run, len(run))] if len(run) else ())]
            written.append(slots[len(run)])
            tips.append(Tip(before, (written[-1],)))
        plan = Plan(self._pool, index_of(written, self._pool.device), tips)
        tokens, positions = [chain.last for chain in chains], [chain.position for chain in chains]
        logits = self._model.skipping(tokens, positions, plan, self._layers)
        for run, token, slot in zip(self._held, tokens, written, strict=True):
            run.tokens.append(token)
            run.slots.append(slot)
        return logits
