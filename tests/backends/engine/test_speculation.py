"""Speculation: whatever is drafted, the tokens are those of plain decoding; only the passes get fewer.

Tiny random models in float64, so that rounding never decides a token.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from branchwise.backends.engine.engine import Engine
from branchwise.backends.engine.model import plan
from branchwise.backends.engine.model.plan import Tip
from branchwise.backends.engine.sampling.sampler import Draw
from branchwise.backends.engine.scheduler.jobs import LiveBranch
from branchwise.backends.engine.settings import EngineSettings
from branchwise.backends.engine.speculation.draft import ROOT, Draft, Node
from branchwise.backends.engine.speculation.drafter import Ask, Drafter
from branchwise.backends.engine.speculation.lookup import Lookup
from branchwise.backends.engine.speculation.siblings import Siblings
from branchwise.backends.engine.speculation.store import Store
from branchwise.backends.engine.speculation.verify import Walk
from branchwise.core.errors import ConfigError
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.core.usage import Usage
from tests.support.architectures import RECURRENT, network
from tests.support.lab import HOT, Grown, Make, ask, grow

pytestmark = pytest.mark.usefixtures("one_thread", "segments")

NAMES = ["llama", "qwen2", "qwen3", "mistral-window", "gemma2-softcap", "gpt2"]
SAMPLINGS = {
    "greedy": replace(HOT, temperature=0),
    "0.7": replace(HOT, temperature=0.7),
    "top-p": replace(HOT, temperature=0.7, top_p=0.9),
    "top-k": replace(HOT, temperature=0.7, top_k=20),
    "1.2": replace(HOT, temperature=1.2, logprobs=3),
}
BUDGET = 8


class Oracle(Drafter):
    """Knows what every branch will draw, and proposes it among things it will not."""

    name = "oracle"

    def __init__(self, outcomes: dict[int, Sequence[int]]) -> None:
        self._outcomes, self._random = outcomes, random.Random(5)

    def propose(self, asks: Sequence[Ask]) -> None:
        for wanted in asks:
            self._guess(*wanted)

    def _guess(self, draft: Draft, branch: LiveBranch, budget: int) -> None:
        right, count = self._outcomes.get(branch.key, ()), len(branch.drawn)
        behind = ROOT
        while len(draft) < budget:
            ahead = count + (0 if behind == ROOT else self._depth(draft, behind))
            if ahead >= len(right):
                return
            wrong = self._random.choice([t for t in range(256) if t != right[ahead]])
            beside = draft.add(Node(behind, wrong, 0.5, 2, 1, self.name))
            if len(draft) < budget and self._random.random() < 0.5:
                draft.add(Node(beside, right[min(ahead + 1, len(right) - 1)], 0.5, 2, 1, self.name))
            if len(draft) < budget:
                behind = draft.add(Node(behind, right[ahead], 0.5, 2, 1, self.name))

    def learn(self, branch: LiveBranch, tokens: Sequence[int]) -> None:
        return

    @staticmethod
    def _depth(draft: Draft, node: int) -> int:
        depth = 0
        while node != ROOT:
            node, depth = draft.nodes[node].parent, depth + 1
        return depth


class Straight(Oracle):
    """Proposes four tokens in a row, every second time the last of them wrong."""

    _asked = 0

    def _guess(self, draft: Draft, branch: LiveBranch, budget: int) -> None:
        right = list(self._outcomes.get(branch.key, ())[len(branch.drawn) :][:4])
        self._asked += 1
        if right and self._asked % 2:
            right[-1] = (right[-1] + 1) % 256
        for token in right:
            draft.add(Node(len(draft) - 1, token, 1.0, 2, 1, self.name))


def outputs(branches: Sequence[Grown]) -> list[tuple[tuple[int, ...], str, object]]:
    return [(branch.tokens, branch.path.text, branch.path.stop_reason) for branch in branches]


def total(branches: Sequence[Grown]) -> Usage:
    return sum((branch.cost for branch in branches), Usage())


async def plain(make: Make, name: str, keys: Sequence[int], sampling: Sampling) -> tuple[Path, list[Grown]]:
    engine = make(name)
    root = await ask(engine)
    return root, await grow(engine, root, keys, sampling)


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
@pytest.mark.parametrize("name", NAMES)
async def test_drafts_change_no_token_and_save_passes(make: Make, name: str, sampling: Sampling, count: int) -> None:
    keys = range(20, 20 + count)
    root, wanted = await plain(make, name, keys, sampling)
    oracle = Oracle({key: branch.tokens for key, branch in zip(keys, wanted, strict=True)})
    drawn = await grow(make(name, oracle), root, keys, sampling)
    assert outputs(drawn) == outputs(wanted)
    for ours, theirs in zip(drawn, wanted, strict=True):
        assert ours.path.logprobs == pytest.approx(theirs.path.logprobs, abs=1e-5)
    cost = total(drawn)
    assert cost.sampled == total(wanted).sampled
    assert cost.drafted >= cost.accepted > cost.sampled / 3


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("drafter", [Siblings, Lookup, Store])
@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
async def test_each_drafter_changes_no_token(
    make: Make, drafter: type[Drafter], sampling: Sampling, count: int
) -> None:
    keys = range(30, 30 + count)
    root, wanted = await plain(make, "llama", keys, sampling)
    engine = make("llama", drafter())
    for _ in range(2):  # the second time, every branch has a finished twin
        drawn = await grow(engine, root, keys, sampling)
        assert outputs(drawn) == outputs(wanted)
    cost = total(drawn)
    assert cost.drafted > 0
    if drafter is not Lookup:
        assert cost.accepted > cost.sampled / 2


def _blind(tip: Tip) -> plan.Mask:
    return plan.np.ones((len(tip.slots), len(tip.slots)), dtype=bool)


def _flat(tip: Tip) -> list[int]:
    return [0] * len(tip.slots)


def _same_key(one: Walk) -> list[Draw]:
    sampling, first = one.branch.sampling, one.position + len(one.choices)
    return [Draw(sampling, 40, first + i, one.row + 1 + node) for i, node in enumerate(one.likely())]


def _behind(one: Walk) -> list[Draw]:
    sampling, key, first = one.branch.sampling, one.branch.key, one.position
    return [Draw(sampling, key, first + i, one.row + 1 + node) for i, node in enumerate(one.likely())]


@pytest.mark.parametrize(
    ("kind", "method", "mutant"),
    [
        pytest.param(Tip, "sight", _blind, id="mask"),
        pytest.param(Tip, "depths", _flat, id="position of a row"),
        pytest.param(Walk, "draws", _same_key, id="key"),
        pytest.param(Walk, "draws", _behind, id="position of a draw"),
    ],
)
async def test_a_wrong_mask_position_or_key_shows(
    make: Make, monkeypatch: pytest.MonkeyPatch, kind: type, method: str, mutant: Callable[[Tip], object]
) -> None:
    keys = range(40, 45)
    root, wanted = await plain(make, "llama", keys, HOT)
    monkeypatch.setattr(kind, method, mutant)
    oracle = Oracle({key: branch.tokens for key, branch in zip(keys, wanted, strict=True)})
    assert outputs(await grow(make("llama", oracle), root, keys, HOT)) != outputs(wanted)


async def test_a_stop_inside_a_draft_ends_the_branch_there(make: Make) -> None:
    root, free = await plain(make, "llama", (50,), HOT)
    text = free[0].path.text
    sampling = replace(HOT, stop=(text[len(text) // 2 : len(text) // 2 + 2],))
    _, wanted = await plain(make, "llama", (50,), sampling)
    drawn = await grow(make("llama", Oracle({50: free[0].tokens})), root, (50,), sampling)
    assert outputs(drawn) == outputs(wanted)
    assert drawn[0].cost.sampled == wanted[0].cost.sampled < len(free[0].tokens)
    assert drawn[0].cost.accepted <= drawn[0].cost.sampled


async def test_where_memory_is_short_drafts_are_the_first_to_go(make: Make) -> None:
    keys = range(60, 64)
    root, wanted = await plain(make, "llama", keys, HOT)
    oracle = Oracle({key: branch.tokens for key, branch in zip(keys, wanted, strict=True)})
    engine = make("llama", oracle)
    size = len(root.token_ids) + sum(len(branch.tokens) for branch in wanted) + 2
    small = make("llama", oracle, memory=size * engine._model.token_bytes())
    assert outputs(await grow(small, root, keys, HOT)) == outputs(wanted)
    await small.close()
    assert small._loop.tree.held <= small._loop.tree.size


async def test_nothing_stays_held_that_was_not_accepted(make: Make) -> None:
    keys = range(70, 74)
    root, wanted = await plain(make, "llama", keys, HOT)
    oracle = Oracle({key: branch.tokens for key, branch in zip(keys, wanted, strict=True)})
    engine = make("llama", oracle)
    await grow(engine, root, keys, HOT)
    distinct = {
        branch.path.all_token_ids()[:length] for branch in wanted for length in range(1, len(root.token_ids) + 24)
    }
    assert engine._loop.tree.held <= len(distinct)


@pytest.mark.parametrize("sampling", [SAMPLINGS["greedy"], SAMPLINGS["1.2"]], ids=["greedy", "1.2"])
@pytest.mark.parametrize("name", RECURRENT)
async def test_recurrent_models_go_back_to_before_wrong_drafts(make: Make, name: str, sampling: Sampling) -> None:
    """In float32, as their scans are: equal unless two tokens are as good as each other."""
    root, wanted = await plain(make, name, (80,), sampling)
    engine = make(name, Straight({80: wanted[0].tokens}))
    drawn = await grow(engine, root, (80,), sampling)
    assert outputs(drawn) == outputs(wanted)
    assert drawn[0].cost.drafted > drawn[0].cost.accepted > 0
    # What goes on from there finds the same states.
    further = await grow(engine, wanted[0].path, (81,), sampling)
    assert outputs(further) == outputs(await grow(make(name), wanted[0].path, (81,), sampling))


async def test_recurrent_models_draft_only_for_a_branch_alone(make: Make) -> None:
    keys = (82, 83, 84)
    root, wanted = await plain(make, "mamba2", keys, HOT)
    oracle = Oracle({key: branch.tokens for key, branch in zip(keys, wanted, strict=True)})
    drawn = await grow(make("mamba2", oracle), root, keys, HOT)
    assert outputs(drawn) == outputs(wanted)


COMPUTING = ["draft-model", "layer-skip"]


@pytest.fixture
def draft_engine(tiny_engine: Engine) -> Iterator[Make]:
    """Engines that draft by computing, over tiny float64 models."""
    made: list[Engine] = []

    def build(drafter: str, target: str = "llama", draft: str = "llama", **settings: int | str) -> Engine:
        drafts = {"drafters": (drafter,), "draft_budget": 4, "memory": 1 << 24, **settings}
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
@pytest.mark.parametrize("drafter", COMPUTING)
async def test_drafters_that_compute_change_no_token(
    make: Make, draft_engine: Make, drafter: str, sampling: Sampling, count: int
) -> None:
    keys = range(90, 90 + count)
    root, wanted = await plain(make, "llama", keys, sampling)
    drawn = await grow(draft_engine(drafter), root, keys, sampling)
    assert outputs(drawn) == outputs(wanted)
    assert total(drawn).drafted > 0


async def test_a_draft_model_that_is_the_target_is_always_right(make: Make, draft_engine: Make) -> None:
    """The draft's noise is the target's, whatever the other branches do."""
    keys = range(95, 98)
    root, wanted = await plain(make, "llama", keys, HOT)
    drawn = await grow(draft_engine("draft-model"), root, keys, HOT)
    assert outputs(drawn) == outputs(wanted)
    cost = total(drawn)
    # Drafts of the last pass may reach beyond a branch's last token.
    assert cost.accepted >= cost.drafted - 4 * len(keys)
    assert cost.accepted >= 0.7 * cost.sampled


async def test_layers_that_all_run_are_always_right(make: Make, draft_engine: Make) -> None:
    root, wanted = await plain(make, "llama", (98,), HOT)
    engine = draft_engine("layer-skip", skipped_layers=())
    drawn = await grow(engine, root, (98,), HOT)
    assert outputs(drawn) == outputs(wanted)
    assert drawn[0].cost.accepted >= 0.7 * drawn[0].cost.sampled
    before = engine._loop.tree.held
    assert before <= len(root.token_ids) + len(wanted[0].tokens)  # the drafts' own slots are given back


async def test_a_draft_model_with_little_memory_drafts_less(
    make: Make, draft_engine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = range(100, 104)
    root, wanted = await plain(make, "llama", keys, HOT)
    engine = draft_engine("draft-model", draft="llama")
    drafter = engine._loop.batch.drafting._drafters[0]
    drafter._tree = type(drafter._tree)(range(1, 1 + len(root.token_ids) + 30))
    drawn = await grow(engine, root, keys, HOT)
    assert outputs(drawn) == outputs(wanted)
    assert not drafter._tree.root.cursors
    assert all(not run.cursors for run in drafter._tree._runs())


@pytest.mark.parametrize("target", ["gpt2", "mamba2"])
def test_layers_of_other_families_are_refused(draft_engine: Make, target: str) -> None:
    with pytest.raises(ConfigError, match="drafters: hold layer-skip"):
        draft_engine("layer-skip", target=target)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"drafters": ("draft-model",)}, "draft_model: is missing"),
        ({"drafters": ("siblings",), "draft_model": "x"}, "drafters: do not hold draft-model"),
        ({"drafters": ("siblngs",)}, "drafters: are siblngs"),
        ({"acceptance": "maybe"}, "acceptance: is 'maybe'"),
        ({"draft_model": "x", "acceptance": "rejection"}, "acceptance: is rejection with draft-model"),
        ({"draft_budget": 0}, "draft_budget: is 0"),
        ({"speculation": "on"}, "speculation: is 'on'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EngineSettings(**settings)
