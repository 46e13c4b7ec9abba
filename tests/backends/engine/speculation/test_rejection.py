"""Both verifiers, keyed and by rejection: what they sample, against the exact distribution of a small model.

Chi-square tests over all sequences of a few tokens, with fixed keys. Over the choice of keys, each raises a false alarm
with probability ODDS, all of them together with less than 1e-6.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from branchwise.backends.base import ExtendRequest
from branchwise.backends.engine.engine import Engine
from branchwise.backends.engine.settings import EngineSettings
from branchwise.backends.engine.speculation.draft import ROOT, Node
from branchwise.backends.engine.speculation.draft_budget import FixedBudget
from branchwise.backends.engine.speculation.drafter import Drafter, DraftRequest
from branchwise.backends.engine.speculation.rejection import verify_by_rejection
from branchwise.backends.engine.speculation.speculator import Speculator
from branchwise.backends.engine.speculation.verify import Verification, Verifier, verify_keyed
from branchwise.core.keys import child_key
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from tests.support.architectures import END, own_logprobs
from tests.support.branches import collect, make_root
from tests.support.distributions import fit

pytestmark = pytest.mark.usefixtures("one_thread")

ODDS = 2e-7  # of a false alarm in one of these tests
SAMPLES = {"keyed": 100_000, "rejection": 16_000, "draft model": 5_000}
BATCH = 1000  # samples at a time
SAMPLING = Sampling(temperature=1.3, top_k=3, max_tokens=3)


def toy(seed: int) -> LlamaForCausalLM:
    """Return a model of three layers in float64."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=261,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.15,
        eos_token_id=END,
        bos_token_id=None,
        pad_token_id=None,
    )
    model: LlamaForCausalLM = LlamaForCausalLM(config).double()
    model.eval()
    return model


def exact(model: LlamaForCausalLM, prefix: Sequence[int], depth: int) -> dict[tuple[int, ...], float]:
    """Return the probability of every sequence of `depth` tokens, the slow and obvious way."""
    if depth == 0 or (prefix and prefix[-1] == END):
        return {(): 1.0}
    logprobs = own_logprobs(model, prefix)[-1] / SAMPLING.temperature
    best = torch.topk(logprobs, SAMPLING.top_k)
    probabilities = torch.softmax(best.values, dim=-1)
    return {
        (token, *rest): probability * further
        for token, probability in zip(best.indices.tolist(), probabilities.tolist(), strict=True)
        for rest, further in exact(model, [*prefix, token], depth - 1).items()
    }


class FixedSequences(Drafter):
    """Proposes the same sequences for every branch."""

    name = "fixed-sequences"

    def __init__(self, sequences: Sequence[tuple[int, ...]]) -> None:
        self._sequences = sequences

    def propose(self, requests: Sequence[DraftRequest]) -> None:
        for draft, branch, _ in requests:
            done = tuple(branch.sampled)
            for sequence in self._sequences:
                node = ROOT
                for token in sequence[len(done) :] if sequence[: len(done)] == done else ():
                    node = draft.add(Node(node, token, 0.5, 2, 1, self.name))


@pytest.fixture
def engine(tiny_engine: Engine) -> Iterator[Engine]:
    settings = EngineSettings(
        memory=1 << 24,
        max_batch=BATCH,
        draft_budget=8,
        acceptance="rejection",
        drafters=("draft-model",),
        draft_model="another toy",
    )
    built = Engine(toy(1), tiny_engine._tokenizer, name="toy", settings=settings, draft_network=toy(2))
    yield built
    built._loop.close()


async def fit_of_branches(engine: Engine, samples: int, expected: dict[tuple[int, ...], float], root: Path) -> float:
    """Return the p-value of the sampled sequences."""
    seen: Counter[tuple[int, ...]] = Counter()
    accepted = 0
    for start in range(0, samples, BATCH):
        keys = tuple(child_key(79, start + i) for i in range(BATCH))
        for branch in await collect(engine.extend(ExtendRequest(root, keys, SAMPLING)), root, keys):
            seen[branch.tokens] += 1
            accepted += branch.cost.accepted
    assert accepted > samples / 10, "too few drafts are accepted to test what follows them"
    assert set(seen) <= set(expected)
    by_probability = sorted(expected.items(), key=lambda item: -item[1])
    return fit([seen[sequence] for sequence, _ in by_probability], [samples * hope for _, hope in by_probability])


def likely_and_wrong(root: Path) -> Speculator:
    """Propose two thirds of the target's sequences, and some that it never samples."""
    likely = sorted(exact(toy(1), root.token_ids, 3).items(), key=lambda item: -item[1])
    wrong = sorted(exact(toy(2), root.token_ids, 3).items(), key=lambda item: -item[1])
    sequences = [sequence for sequence, _ in [*wrong[:3], *likely[3:15]]]
    return Speculator([FixedSequences(sequences)], FixedBudget(32))


@pytest.mark.parametrize("verify", ["keyed", "rejection"])
async def test_draft_trees_leave_the_distribution_unchanged(engine: Engine, verify: str) -> None:
    root = await make_root(engine)
    engine.set_speculator(likely_and_wrong(root))
    engine._loop.batch._verify = verify_keyed if verify == "keyed" else verify_by_rejection
    assert await fit_of_branches(engine, SAMPLES[verify], exact(toy(1), root.token_ids, 3), root) > ODDS


async def test_sampled_drafts_leave_the_distribution_unchanged(engine: Engine) -> None:
    root = await make_root(engine)
    assert await fit_of_branches(engine, SAMPLES["draft model"], exact(toy(1), root.token_ids, 3), root) > ODDS


def prefer_drafts(logits: Tensor, verifications: Sequence[Verification], end_tokens: frozenset[int]) -> None:
    """Verify with a bias: for some branches, take the first draft without sampling."""
    verify_keyed(logits, verifications, end_tokens)
    for one in verifications:
        first = one.draft.first_child(ROOT)
        if first is not None and one.branch.key % 8 == 0:
            one.tokens[:], one.logprobs[:], one.top_logprobs[:] = [one.draft.nodes[first].token], [0.0], [()]
            one.accepted.clear()


def same_noise(logits: Tensor, verifications: Sequence[Verification], end_tokens: frozenset[int]) -> None:
    """Verify with a bias: the noise of a branch is the same at all of its positions."""
    for one in verifications:
        one.position = 0
    verify_keyed(logits, verifications, end_tokens)


@pytest.mark.parametrize("verify", [prefer_drafts, same_noise])
async def test_a_biased_verifier_is_detected(engine: Engine, verify: Verifier) -> None:
    root = await make_root(engine)
    expected = exact(toy(1), root.token_ids, 3)
    likely = [sequence for sequence, _ in sorted(expected.items(), key=lambda item: -item[1])]
    engine.set_speculator(Speculator([FixedSequences(likely[3:15])], FixedBudget(32)))
    engine._loop.batch._verify = verify
    assert await fit_of_branches(engine, SAMPLES["rejection"], expected, root) < ODDS
