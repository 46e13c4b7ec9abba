"""Keyed verification: drafts change the number of passes and never a token.

Tiny random models in float64, so that rounding never decides a token.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from branchwise.backends.engine.model import plan
from branchwise.backends.engine.model.plan import DecodeSequence
from branchwise.backends.engine.sampling.sampler import SampleRequest
from branchwise.backends.engine.speculation.verify import Verification
from branchwise.core.sampling import Sampling
from tests.support.architectures import RECURRENT
from tests.support.branches import SAMPLING, MakeEngine, generate
from tests.support.drafts import SAMPLINGS, OracleChain, OracleTree, generate_plain, outputs, total_usage

pytestmark = pytest.mark.usefixtures("one_thread", "segments")

NAMES = ["llama", "qwen2", "qwen3", "mistral-window", "gemma2-softcap", "gpt2"]


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
@pytest.mark.parametrize("name", NAMES)
async def test_drafts_change_no_token_and_save_passes(
    make_engine: MakeEngine, name: str, sampling: Sampling, count: int
) -> None:
    keys = range(20, 20 + count)
    root, wanted = await generate_plain(make_engine, name, keys, sampling)
    oracle = OracleTree({key: branch.tokens for key, branch in zip(keys, wanted, strict=True)})
    drafted = await generate(make_engine(name, oracle), root, keys, sampling)
    assert outputs(drafted) == outputs(wanted)
    for ours, theirs in zip(drafted, wanted, strict=True):
        assert ours.path.logprobs == pytest.approx(theirs.path.logprobs, abs=1e-5)
    cost = total_usage(drafted)
    assert cost.sampled == total_usage(wanted).sampled
    assert cost.drafted >= cost.accepted > cost.sampled / 3


def _all_visible(sequence: DecodeSequence) -> plan.Mask:
    return np.ones((len(sequence.slots), len(sequence.slots)), dtype=bool)


def _no_depths(sequence: DecodeSequence) -> list[int]:
    return [0] * len(sequence.slots)


def _one_key(one: Verification) -> list[SampleRequest]:
    sampling, first = one.branch.sampling, one.position + len(one.tokens)
    return [SampleRequest(sampling, 40, first + i, one.row + 1 + node) for i, node in enumerate(one.likely_path())]


def _first_position(one: Verification) -> list[SampleRequest]:
    sampling, key, first = one.branch.sampling, one.branch.key, one.position
    return [SampleRequest(sampling, key, first + i, one.row + 1 + node) for i, node in enumerate(one.likely_path())]


@pytest.mark.parametrize(
    ("kind", "method", "mutant"),
    [
        pytest.param(DecodeSequence, "visible", _all_visible, id="mask"),
        pytest.param(DecodeSequence, "depths", _no_depths, id="position of a row"),
        pytest.param(Verification, "sample_requests", _one_key, id="key"),
        pytest.param(Verification, "sample_requests", _first_position, id="position of a sample"),
    ],
)
async def test_a_wrong_mask_position_or_key_changes_tokens(
    make_engine: MakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    kind: type,
    method: str,
    mutant: Callable[[DecodeSequence], object],
) -> None:
    keys = range(40, 45)
    root, wanted = await generate_plain(make_engine, "llama", keys, SAMPLING)
    monkeypatch.setattr(kind, method, mutant)
    oracle = OracleTree({key: branch.tokens for key, branch in zip(keys, wanted, strict=True)})
    assert outputs(await generate(make_engine("llama", oracle), root, keys, SAMPLING)) != outputs(wanted)


async def test_a_stop_inside_a_draft_ends_the_branch(make_engine: MakeEngine) -> None:
    root, free = await generate_plain(make_engine, "llama", (50,), SAMPLING)
    text = free[0].path.text
    sampling = replace(SAMPLING, stop=(text[len(text) // 2 : len(text) // 2 + 2],))
    _, wanted = await generate_plain(make_engine, "llama", (50,), sampling)
    drafted = await generate(make_engine("llama", OracleTree({50: free[0].tokens})), root, (50,), sampling)
    assert outputs(drafted) == outputs(wanted)
    assert drafted[0].cost.sampled == wanted[0].cost.sampled < len(free[0].tokens)
    assert drafted[0].cost.accepted <= drafted[0].cost.sampled


async def test_a_full_pool_drops_drafts_before_branches(make_engine: MakeEngine) -> None:
    keys = range(60, 64)
    root, wanted = await generate_plain(make_engine, "llama", keys, SAMPLING)
    oracle = OracleTree({key: branch.tokens for key, branch in zip(keys, wanted, strict=True)})
    engine = make_engine("llama", oracle)
    size = len(root.token_ids) + sum(len(branch.tokens) for branch in wanted) + 2
    small = make_engine("llama", oracle, memory=size * engine._model.token_bytes())
    assert outputs(await generate(small, root, keys, SAMPLING)) == outputs(wanted)
    await small.close()
    assert small._loop.tree.used <= small._loop.tree.capacity


async def test_rejected_drafts_are_not_cached(make_engine: MakeEngine) -> None:
    keys = range(70, 74)
    root, wanted = await generate_plain(make_engine, "llama", keys, SAMPLING)
    oracle = OracleTree({key: branch.tokens for key, branch in zip(keys, wanted, strict=True)})
    engine = make_engine("llama", oracle)
    await generate(engine, root, keys, SAMPLING)
    distinct = {
        branch.path.all_token_ids()[:length] for branch in wanted for length in range(1, len(root.token_ids) + 24)
    }
    assert engine._loop.tree.used <= len(distinct)


@pytest.mark.parametrize("sampling", [SAMPLINGS["greedy"], SAMPLINGS["1.2"]], ids=["greedy", "1.2"])
@pytest.mark.parametrize("name", RECURRENT)
async def test_a_rejected_draft_restores_a_recurrent_state(
    make_engine: MakeEngine, name: str, sampling: Sampling
) -> None:
    """In float32, as their scans are: equal unless two tokens are equally good."""
    root, wanted = await generate_plain(make_engine, name, (80,), sampling)
    engine = make_engine(name, OracleChain({80: wanted[0].tokens}))
    drafted = await generate(engine, root, (80,), sampling)
    assert outputs(drafted) == outputs(wanted)
    assert drafted[0].cost.drafted > drafted[0].cost.accepted > 0
    # A branch that continues from there finds the same states.
    further = await generate(engine, wanted[0].path, (81,), sampling)
    assert outputs(further) == outputs(await generate(make_engine(name), wanted[0].path, (81,), sampling))


async def test_recurrent_models_draft_only_for_a_branch_alone(make_engine: MakeEngine) -> None:
    keys = (82, 83, 84)
    root, wanted = await generate_plain(make_engine, "mamba2", keys, SAMPLING)
    oracle = OracleTree({key: branch.tokens for key, branch in zip(keys, wanted, strict=True)})
    drafted = await generate(make_engine("mamba2", oracle), root, keys, SAMPLING)
    assert outputs(drafted) == outputs(wanted)
