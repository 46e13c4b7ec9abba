"""Build the speculator, drafters and draft budget that the engine's settings name."""

from collections.abc import Sequence
from typing import NamedTuple

from branchwise.backends.cache_folder import cache_folder
from branchwise.backends.engine.cache.kv_pool import KVPool
from branchwise.backends.engine.cache.radix_tree import RadixTree
from branchwise.backends.engine.model.causal_lm import EngineModel
from branchwise.backends.engine.settings import EngineSettings
from branchwise.backends.engine.speculation.cost_measurement import load_or_measure
from branchwise.backends.engine.speculation.cost_model import CostModel
from branchwise.backends.engine.speculation.draft_budget import AdaptiveBudget, DraftBudget, FixedBudget
from branchwise.backends.engine.speculation.draft_model import DraftModel
from branchwise.backends.engine.speculation.drafter import Drafter
from branchwise.backends.engine.speculation.layer_skip import LayerSkip
from branchwise.backends.engine.speculation.lookup import PromptLookup
from branchwise.backends.engine.speculation.siblings import Siblings
from branchwise.backends.engine.speculation.speculator import Speculator
from branchwise.backends.engine.speculation.store import Store
from branchwise.core.errors import ConfigError


class Target(NamedTuple):
    """The model that verifies drafts, and its cache."""

    model: EngineModel
    tree: RadixTree
    pool: KVPool


def speculator_for(target: Target, draft_model: EngineModel | None, settings: EngineSettings) -> Speculator | None:
    """Return the speculator, or None without speculation.

    Recurrent models draft only where a budget is set: a rejected draft makes them compute from an earlier state again.
    Raises ConfigError for drafters that the models do not support.
    """
    if settings.speculation == "off" or (target.model.recurrent and settings.draft_budget is None):
        return None
    drafters = [drafter_for(name, target, draft_model, settings) for name in settings.all_drafters()]
    budget = draft_budget_for(target, settings.draft_budget)
    return Speculator(drafters, budget, separate=settings.acceptance == "rejection")


def drafter_for(name: str, target: Target, draft_model: EngineModel | None, settings: EngineSettings) -> Drafter:
    """Return a new drafter by its name. Raises ConfigError when the model does not support it."""
    rejection = settings.acceptance == "rejection"
    if name == LayerSkip.name:
        layers = _layers(target.model, settings.skipped_layers)
        costs = _MeasuredCosts(target.model, target.pool, layers)
        return LayerSkip(*target, layers, costs.seconds, rejection=rejection)
    if name == DraftModel.name:
        assert draft_model is not None
        memory = settings.memory_bytes(draft_model.device) // 2
        pool = KVPool(draft_model.capacity(memory).tokens, draft_model.device)
        return DraftModel(draft_model, pool, _MeasuredCosts(draft_model, pool).seconds, rejection=rejection)
    kinds: tuple[type[Siblings | PromptLookup | Store], ...] = (Siblings, PromptLookup, Store)
    return next(kind for kind in kinds if kind.name == name)()


def draft_budget_for(target: Target, nodes: int | None) -> DraftBudget:
    """Return a budget of `nodes` nodes for each branch, or an adaptive one."""
    if nodes is not None:
        return FixedBudget(nodes)
    return AdaptiveBudget(_MeasuredCosts(target.model, target.pool).model)


class _MeasuredCosts:
    """The cost model of a network, measured on first use."""

    def __init__(self, model: EngineModel, pool: KVPool, layers: Sequence[int] | None = None) -> None:
        self._model = model
        self._pool = pool
        self._layers = layers
        self._costs: CostModel | None = None

    def model(self) -> CostModel:
        if self._costs is None:
            self._costs = load_or_measure(self._model, self._pool, cache_folder() / "steps", self._layers)
        return self._costs

    def seconds(self, branches: int) -> float:
        """Return the cost of a step that samples one token for each branch."""
        costs = self.model()
        return costs.at(branches, branches) + costs.seconds_per_sample * branches


def _layers(model: EngineModel, skipped: Sequence[int] | None) -> list[int]:
    """Return the layers that run when drafting."""
    count = model.skippable_layers
    if not count:
        raise ConfigError(
            "drafters",
            "include layer-skip, but this model's layers cannot be left out",
            "use a Llama, Mistral or Qwen model",
        )
    if skipped is None:
        skipped = range(count // 4 + 1, count - count // 4, 2)
    if not set(skipped) <= set(range(count)):
        raise ConfigError("skipped_layers", f"are {[*skipped]}", f"this model has the layers 0 to {count - 1}")
    return [layer for layer in range(count) if layer not in skipped]
