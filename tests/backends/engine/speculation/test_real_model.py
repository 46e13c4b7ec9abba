"""Speculation on a real model: the tokens of plain decoding in float32, its frequencies in bfloat16."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from scipy.stats import chi2_contingency

import branchwise as bw
from branchwise.backends.engine.engine import Engine
from branchwise.backends.engine.settings import DRAFTERS, EngineSettings
from branchwise.backends.engine.speculation.draft_budget import FixedBudget
from branchwise.backends.engine.speculation.speculator import Speculator
from branchwise.core.keys import child_key
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from tests.support.branches import BranchResult, generate, make_root
from tests.support.criterion import Comparison, compare

SMALL = "SmolLM2-135M-Instruct"
QUESTION = "A baker makes 12 trays of 8 rolls and sells 70 of them. How many rolls are left? Think step by step."
FREE = Sampling(max_tokens=14, logprobs=64)
SAMPLINGS = {
    "greedy": replace(FREE, temperature=0),
    "0.7": replace(FREE, temperature=0.7),
    "top-p": replace(FREE, temperature=0.7, top_p=0.9),
    "top-k": replace(FREE, temperature=0.7, top_k=20),
    "1.2": replace(FREE, temperature=1.2),
}
BUDGET = dict.fromkeys(DRAFTERS, 6) | {"draft-model": 2, "layer-skip": 2}
SIBLING = [child_key(2025, 0)]  # a finished branch to draft from
ODDS = 1e-8  # of a false alarm in the test of frequencies
PER_CLOSE = 5000  # tokens for each one that rounding may decide

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("one_thread")]


def speculator(engine: Engine, name: str) -> Speculator:
    return Speculator([engine.drafter(name)], FixedBudget(BUDGET[name]))


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """The engine with the model as its own draft model."""
    loaded = bw.load(SMALL, settings=EngineSettings(dtype="float32", draft_model=SMALL))
    assert isinstance(loaded, Engine)
    yield loaded
    loaded._loop.close()


@pytest.fixture(scope="module")
def seen() -> Iterator[Comparison]:
    """All comparisons in float32."""
    found = Comparison()
    yield found
    print(f"with drafts and without: {found}")
    assert found.close <= 1 + found.tokens / PER_CLOSE


@pytest.fixture(scope="module")
def references() -> dict[tuple[Path, tuple[int, ...], Sampling], list[BranchResult]]:
    """Branches generated without drafts."""
    return {}


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
@pytest.mark.parametrize("drafter", DRAFTERS)
async def test_tokens_are_those_of_plain_decoding(
    engine: Engine,
    seen: Comparison,
    references: dict[object, list[BranchResult]],
    drafter: str,
    sampling: Sampling,
    count: int,
) -> None:
    root = await make_root(engine, QUESTION)
    keys = tuple(child_key(2024, i) for i in range(count))

    async def plain(parent: Path, keys: Sequence[int], sampling: Sampling) -> list[BranchResult]:
        request = (parent.all_token_ids(), tuple(keys), sampling)
        if request not in references:
            engine.clear()
            engine.set_speculator(None)
            references[request] = await generate(engine, parent, keys, sampling)
        return references[request]

    wanted = await plain(root, keys, sampling)
    engine.clear()
    used = speculator(engine, drafter)
    engine.set_speculator(used)
    await generate(engine, root, SIBLING, sampling)
    drafted = await generate(engine, root, keys, sampling)
    assert sum(branch.cost.drafted for branch in drafted) > 0
    for key, reference, other in zip(keys, wanted, drafted, strict=True):
        path, found = reference.path, other.path
        while (at := compare(path, found, key, sampling, seen)) is not None and at + 1 < len(path.token_ids):
            # From here on, both follow the reference.
            assert path.parent is not None
            parent = path.cut(path.parent.generated + at + 1)
            left = replace(sampling, max_tokens=len(path.token_ids) - at - 1)
            path = (await plain(parent, (key,), left))[0].path
            engine.set_speculator(used)
            found = (await generate(engine, parent, (key,), left))[0].path


async def test_bfloat16_frequencies_are_those_of_plain_decoding() -> None:
    engine = bw.load(SMALL, settings=EngineSettings(dtype="bfloat16", speculation="off"))
    assert isinstance(engine, Engine)
    root = await make_root(engine, QUESTION)
    sampling = Sampling(temperature=0.7, max_tokens=5)
    keys = [child_key(2026, i) for i in range(128)]
    tokens: list[list[tuple[int, ...]]] = []
    for name in (None, "siblings"):
        engine.set_speculator(None if name is None else speculator(engine, name))
        engine.clear()
        if name is not None:
            await generate(engine, root, keys[:32], sampling)  # siblings to draft from
        drafted = await generate(engine, root, keys, sampling)
        tokens.append([branch.tokens for branch in drafted])
    assert sum(branch.cost.accepted for branch in drafted) > len(keys)
    counts = [Counter((at, token) for path in paths for at, token in enumerate(path)) for paths in tokens]
    common = [cell for cell in counts[0] | counts[1] if counts[0][cell] + counts[1][cell] >= 20]
    table = [[count[cell] for cell in common] for count in counts]
    assert len(common) > 5
    assert chi2_contingency(table).pvalue > ODDS
    assert sum(map(tuple.__eq__, *tokens)) > 0.7 * len(keys), "most paths are token-identical"
    await engine.close()
