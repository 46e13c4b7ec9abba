"""The drafting that settings ask for."""

from collections.abc import Sequence
from typing import NamedTuple

from branchwise.backends.engine.cache.kv_pool import Pool
from branchwise.backends.engine.cache.radix_tree import TokenTree
from branchwise.backends.engine.model.causal_lm import EngineModel
from branchwise.backends.engine.settings import EngineSettings
from branchwise.backends.engine.speculation.draft_budget import Fixed, Gate, Paying, StepCosts
from branchwise.backends.engine.speculation.draft_model import DraftModel
from branchwise.backends.engine.speculation.drafter import Drafter
from branchwise.backends.engine.speculation.drafting import Drafting
from branchwise.backends.engine.speculation.layer_skip import LayerSkip
from branchwise.backends.engine.speculation.lookup import Lookup
from branchwise.backends.engine.speculation.siblings import Siblings
from branchwise.backends.engine.speculation.step_costs import step_costs
from branchwise.backends.engine.speculation.store import Store
from branchwise.backends.models.cache import cache_folder
from branchwise.core.errors import ConfigError


class Target(NamedTuple):
    """What is drafted for."""

    model: EngineModel
    tree: TokenTree
    pool: Pool


def drafting_for(target: Target, draft_model: EngineModel | None, settings: EngineSettings) -> Drafting | None:
    """None where nothing is drafted: for recurrent models only where a budget is set, as their states would have to go
    back to before every wrong draft.

    Raises ConfigError for drafters that the models cannot serve.
    """
    if settings.speculation == "off" or (target.model.recurrent and settings.draft_budget is None):
        return None
    drafters = [drafter_for(name, target, draft_model, settings) for name in settings.all_drafters()]
    gate = gate_for(target, settings.draft_budget)
    return Drafting(drafters, gate, apart=settings.acceptance == "rejection")


def drafter_for(name: str, target: Target, draft_model: EngineModel | None, settings: EngineSettings) -> Drafter:
    """A new drafter by its name."""
    rejection = settings.acceptance == "rejection"
    if name == LayerSkip.name:
        layers = _layers(target.model, settings.skipped_layers)
        costs = _Costs(target.model, target.pool, layers)
        return LayerSkip(*target, layers, costs.seconds, rejection=rejection)
    if name == DraftModel.name:
        assert draft_model is not None
        memory = settings.memory_bytes(draft_model.device) // 2
        pool = Pool(draft_model.room(memory).tokens, draft_model.device)
        return DraftModel(draft_model, pool, _Costs(draft_model, pool).seconds, rejection=rejection)
    kinds: tuple[type[Siblings | Lookup | Store], ...] = (Siblings, Lookup, Store)
    return next(kind for kind in kinds if kind.name == name)()


def gate_for(target: Target, budget: int | None) -> Gate:
    """One that takes so many drafts for each branch, or as many as pay."""
    if budget is not None:
        return Fixed(budget)
    return Paying(_Costs(target.model, target.pool).table)


class _Costs:
    """What steps of a model cost, measured when it is first asked for."""

    def __init__(self, model: EngineModel, pool: Pool, layers: Sequence[int] | None = None) -> None:
        self._model, self._pool, self._layers = model, pool, layers
        self._table: StepCosts | None = None

    def table(self) -> StepCosts:
        if self._table is None:
            self._table = step_costs(self._model, self._pool, cache_folder() / "steps", self._layers)
        return self._table

    def seconds(self, branches: int) -> float:
        """Of a step that draws a token for each of so many branches."""
        costs = self.table()
        return costs.at(branches, branches) + costs.draw * branches


def _layers(model: EngineModel, skipped: Sequence[int] | None) -> list[int]:
    """Those that run when drafting."""
    count = model.skippable
    if not count:
        raise ConfigError(
            "drafters",
            "hold layer-skip, but this model's layers cannot be left out",
            "use a Llama, Mistral or Qwen model",
        )
    if skipped is None:
        skipped = range(count // 4 + 1, count - count // 4, 2)
    if not set(skipped) <= set(range(count)):
        raise ConfigError("skipped_layers", f"are {[*skipped]}", f"this model has the layers 0 to {count - 1}")
    return [layer for layer in range(count) if layer not in skipped]
