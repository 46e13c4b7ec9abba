"""The engine's drafters: none of them changes a token.

Tiny random models in float64, so that rounding never decides a token.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from branchwise.backends.engine.engine import Engine
from branchwise.backends.engine.settings import EngineSettings
from branchwise.backends.engine.speculation.draft_model import DraftModel
from branchwise.backends.engine.speculation.drafter import Drafter
from branchwise.backends.engine.speculation.lookup import PromptLookup
from branchwise.backends.engine.speculation.siblings import Siblings
from branchwise.backends.engine.speculation.store import Store
from branchwise.core.errors import ConfigError
from branchwise.core.sampling import Sampling
from tests.support.architectures import network
from tests.support.branches import SAMPLING, MakeEngine, generate, nodes_of
from tests.support.drafts import SAMPLINGS, generate_plain, outputs, total_usage

pytestmark = pytest.mark.usefixtures("one_thread", "segments")

MODEL_DRAFTERS = ["draft-model", "layer-skip"]


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("drafter", [Siblings, PromptLookup, Store])
@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
async def test_lookup_drafters_change_no_token(
    make_engine: MakeEngine, drafter: type[Drafter], sampling: Sampling, count: int
) -> None:
    keys = range(30, 30 + count)
    root, wanted = await generate_plain(make_engine, "llama", keys, sampling)
    engine = make_engine("llama", drafter())
    for _ in range(2):  # the second time, every branch has a finished twin
        drafted = await generate(engine, root, keys, sampling)
        assert outputs(drafted) == outputs(wanted)
    cost = total_usage(drafted)
    assert cost.drafted > 0
    if drafter is not PromptLookup:
        assert cost.accepted > cost.sampled / 2


@pytest.fixture
def make_drafting(tiny_engine: Engine) -> Iterator[MakeEngine]:
    """Build engines whose drafter runs a model, over tiny float64 models."""
    made: list[Engine] = []

    def build(drafter: str, target: str = "llama", draft: str = "llama", **settings: int | str) -> Engine:
        drafts: dict[str, Any] = {"drafters": (drafter,), "draft_budget": 4, "memory": 1 << 24, **settings}
        other = None
        if drafter == "draft-model":
            drafts["draft_model"], other = "tiny", network(draft)
        engine = Engine(
            network(target), tiny_engine._tokenizer, name="tiny", settings=EngineSettings(**drafts), draft_network=other
        )
        made.append(engine)
        return engine

    yield build
    for engine in made:
        engine._loop.close()


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
@pytest.mark.parametrize("drafter", MODEL_DRAFTERS)
async def test_model_drafters_change_no_token(
    make_engine: MakeEngine, make_drafting: MakeEngine, drafter: str, sampling: Sampling, count: int
) -> None:
    keys = range(90, 90 + count)
    root, wanted = await generate_plain(make_engine, "llama", keys, sampling)
    drafted = await generate(make_drafting(drafter), root, keys, sampling)
    assert outputs(drafted) == outputs(wanted)
    assert total_usage(drafted).drafted > 0


async def test_drafts_by_the_target_itself_are_all_accepted(make_engine: MakeEngine, make_drafting: MakeEngine) -> None:
    """The draft's noise is the target's, whatever the other branches do."""
    keys = range(95, 98)
    root, wanted = await generate_plain(make_engine, "llama", keys, SAMPLING)
    drafted = await generate(make_drafting("draft-model"), root, keys, SAMPLING)
    assert outputs(drafted) == outputs(wanted)
    cost = total_usage(drafted)
    # Drafts of the last pass may go beyond a branch's last token.
    assert cost.accepted >= cost.drafted - 4 * len(keys)
    assert cost.accepted >= 0.7 * cost.sampled


async def test_drafts_without_skipped_layers_are_all_accepted(
    make_engine: MakeEngine, make_drafting: MakeEngine
) -> None:
    root, wanted = await generate_plain(make_engine, "llama", (98,), SAMPLING)
    engine = make_drafting("layer-skip", skipped_layers=())
    drafted = await generate(engine, root, (98,), SAMPLING)
    assert outputs(drafted) == outputs(wanted)
    assert drafted[0].cost.accepted >= 0.7 * drafted[0].cost.sampled
    before = engine._loop.tree.used
    assert before <= len(root.token_ids) + len(wanted[0].tokens)  # the slots of the drafts are freed


async def test_a_draft_model_with_little_memory_drafts_less(
    make_engine: MakeEngine, make_drafting: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = range(100, 104)
    root, wanted = await generate_plain(make_engine, "llama", keys, SAMPLING)
    engine = make_drafting("draft-model", draft="llama")
    speculator = engine._loop.batch.speculator
    assert speculator is not None
    drafter = speculator._drafters[0]
    assert isinstance(drafter, DraftModel)
    drafter._tree = type(drafter._tree)(range(1, 1 + len(root.token_ids) + 30))
    drafted = await generate(engine, root, keys, SAMPLING)
    assert outputs(drafted) == outputs(wanted)
    assert not drafter._tree.root.cursors
    assert all(not node.cursors for node in nodes_of(drafter._tree))


@pytest.mark.parametrize("target", ["gpt2", "mamba2"])
def test_layers_of_other_families_cannot_be_skipped(make_drafting: MakeEngine, target: str) -> None:
    with pytest.raises(ConfigError, match="drafters: include layer-skip"):
        make_drafting("layer-skip", target=target)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"drafters": ("draft-model",)}, "draft_model: is missing"),
        ({"drafters": ("siblings",), "draft_model": "x"}, "drafters: do not include draft-model"),
        ({"drafters": ("siblngs",)}, "drafters: are siblngs"),
        ({"acceptance": "maybe"}, "acceptance: is 'maybe'"),
        ({"draft_model": "x", "acceptance": "rejection"}, "acceptance: is rejection with draft-model"),
        ({"draft_budget": 0}, "draft_budget: is 0"),
        ({"speculation": "on"}, "speculation: is 'on'"),
    ],
)
def test_invalid_settings_of_speculation_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EngineSettings(**settings)
