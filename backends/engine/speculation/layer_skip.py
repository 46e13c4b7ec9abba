"""Drafts by the target model with some of its layers skipped (Zhang et al. 2023, arXiv 2309.08168)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from branchwise.backends.engine.cache.kv_pool import KVPool, slot_index
from branchwise.backends.engine.cache.node import RadixNode, TreePosition
from branchwise.backends.engine.cache.radix_tree import RadixTree
from branchwise.backends.engine.model.causal_lm import EngineModel
from branchwise.backends.engine.model.plan import DecodeSequence, Plan
from branchwise.backends.engine.speculation.chain import Chain, ChainDrafter
from branchwise.backends.engine.speculation.drafter import DraftRequest


class LayerSkip(ChainDrafter):
    """The target's own layers as a draft model.

    The layers that run read the keys and values of the target's cache. Their own go to slots that are freed before the
    target verifies the chain.
    """

    name = "layer-skip"

    def __init__(
        self,
        model: EngineModel,
        tree: RadixTree,
        pool: KVPool,
        layers: Sequence[int],
        seconds: Callable[[int], float],
        *,
        rejection: bool,
    ) -> None:
        """`layers`: those that run; `seconds`: the cost of a decode step of them by the number of branches."""
        super().__init__(rejection=rejection)
        self._model = model
        self._tree = tree
        self._pool = pool
        self._layers = layers
        self._seconds = seconds
        self._slots: list[list[int]] = []  # of each chain
        self._drafted: list[RadixNode] = []  # of each chain, its tokens and the slots they use

    def seconds(self, branches: int) -> float:
        return self._seconds(branches)

    @contextmanager
    def _started(self, requests: Sequence[DraftRequest]) -> Iterator[Sequence[Chain]]:
        depth = max(request.budget for request in requests)
        slots = self._tree.allocate(len(requests) * depth)
        if slots is None:
            yield ()
            return
        chains: list[Chain] = []
        for request in requests:
            assert request.branch.cursor is not None
            chains.append(Chain(request, request.branch.sampled[-1], request.branch.cursor.depth))
        self._slots = [slots[start : start + depth] for start in range(0, len(slots), depth)]
        self._drafted = [RadixNode(None, chain.position) for chain in chains]
        try:
            yield chains
        finally:
            self._tree.free(slots)

    def _logits(self, chains: Sequence[Chain]) -> Tensor:
        tips: list[DecodeSequence] = []
        written: list[int] = []
        for chain, run, slots in zip(chains, self._drafted, self._slots, strict=True):
            cursor = chain.request.branch.cursor
            assert cursor is not None
            before = [*cursor.prefix_nodes(), *([TreePosition(run, len(run))] if len(run) else ())]
            written.append(slots[len(run)])
            tips.append(DecodeSequence(before, (written[-1],)))
        plan = Plan(self._pool, slot_index(written, self._pool.device), tips)
        tokens, positions = [chain.token for chain in chains], [chain.position for chain in chains]
        logits = self._model.step_layers(tokens, positions, plan, self._layers)
        for run, token, slot in zip(self._drafted, tokens, written, strict=True):
            run.tokens.append(token)
            run.slots.append(slot)
        return logits
