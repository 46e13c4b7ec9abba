"""What speculation draws, against the exact distribution of a small model.

Chi-square tests over all sequences of a few tokens, with fixed keys: over the choice of keys each would raise a false
alarm with odds of ODDS, all of them together with less than 1e-6.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from branchwise.backends.base import ExtendRequest
from branchwise.backends.engine.engine import Engine
from branchwise.backends.engine.settings import EngineSettings
from branchwise.backends.engine.speculation.draft import ROOT, Node
from branchwise.backends.engine.speculation.draft_budget import Fixed
from branchwise.backends.engine.speculation.drafter import Ask, Drafter
from branchwise.backends.engine.speculation.drafting import Drafting
from branchwise.backends.engine.speculation.rejection import reject
from branchwise.backends.engine.speculation.verify import Choice, Verify, Walk, walk
from branchwise.core.keys import child_key
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from tests.support.architectures import END, own_logprobs
from tests.support.lab import ask, hear

pytestmark = pytest.mark.usefixtures("one_thread")

ODDS = 2e-7  # of a false alarm in one of these tests
SAMPLES = {"keyed": 100_000, "rejection": 16_000, "draft model": 5_000}
TOGETHER = 1000  # samples at a time
SAMPLING = Sampling(temperature=1.3, top_k=3, max_tokens=3)


def toy(seed: int) -> LlamaForCausalLM:
    """Three layers, float64."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=261, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.15, eos_token_id=END,
        bos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config).double().eval()


def exact(model: LlamaForCausalLM, given: Sequence[int], depth: int) -> dict[tuple[int, ...], float]:
    """The probability of every sequence of `depth` tokens, the slow and obvious way."""
    if depth == 0 or (given and given[-1] == END):
        return {(): 1.0}
    logprobs = own_logprobs(model, given)[-1] / SAMPLING.temperature
    best = torch.topk(logprobs, SAMPLING.top_k)
    chances = torch.softmax(best.values, dim=-1)
    return {
        (token, *rest): chance * further
        for token, chance in zip(best.indices.tolist(), chances.tolist(), strict=True)
        for rest, further in exact(model, [*given, token], depth - 1).items()
    }


class Guesses(Drafter):
    """For every branch the same tree: the likeliest sequences of another model, two tokens wide."""

    name = "guesses"

    def __init__(self, sequences: Sequence[tuple[int, ...]]) -> None:
        self._sequences = sequences

    def propose(self, asks: Sequence[Ask]) -> None:
        for draft, branch, _ in asks:
            done = tuple(branch.drawn)
            for sequence in self._sequences:
                node = ROOT
                for token in sequence[len(done) :] if sequence[: len(done)] == done else ():
                    node = draft.add(Node(node, token, 0.5, 2, 1, self.name))


@pytest.fixture
def engine(tiny_engine: Engine) -> Iterator[Engine]:
    settings = EngineSettings(memory=1 << 24, max_batch=TOGETHER, draft_budget=8, acceptance="rejection",
                              drafters=("draft-model",), draft_model="another toy")  # fmt: skip
    built = Engine(toy(1), tiny_engine._tokenizer, name="toy", settings=settings, draft_network=toy(2))
    yield built
    built._loop.close()


async def misfit(engine: Engine, samples: int, expected: dict[tuple[int, ...], float], root: Path) -> float:
    """The p-value of what is drawn."""
    seen: Counter[tuple[int, ...]] = Counter()
    accepted = 0
    for start in range(0, samples, TOGETHER):
        keys = tuple(child_key(79, start + i) for i in range(TOGETHER))
        for branch in await hear(engine.extend(ExtendRequest(root, keys, SAMPLING)), root, keys):
            seen[branch.tokens] += 1
            accepted += branch.cost.accepted
    assert accepted > samples / 10, "drafts are accepted, and followed by draws"
    assert set(seen) <= set(expected)
    counts, hopes = [0.0], [0.0]
    for sequence, chance in sorted(expected.items(), key=lambda item: -item[1]):
        counts[-1], hopes[-1] = counts[-1] + seen[sequence], hopes[-1] + chance * samples
        if hopes[-1] >= 10:  # rare ones count together until the approximation holds
            counts, hopes = [*counts, 0.0], [*hopes, 0.0]
    counts[-2:], hopes[-2:] = [sum(counts[-2:])], [sum(hopes[-2:])]
    return float(chisquare(counts, hopes).pvalue)


def guess(root: Path) -> Drafting:
    """Two thirds of what the target may say, and some that it never does."""
    likely = sorted(exact(toy(1), root.token_ids, 3).items(), key=lambda item: -item[1])
    unlikely = sorted(exact(toy(2), root.token_ids, 3).items(), key=lambda item: -item[1])
    return Drafting([Guesses([sequence for sequence, _ in [*unlikely[:3], *likely[3:15]]])], Fixed(32))


@pytest.mark.parametrize("verify", ["keyed", "rejection"])
async def test_trees_of_guesses_leave_the_distribution_as_it_is(engine: Engine, verify: str) -> None:
    root = await ask(engine)
    engine.draft_with(guess(root))
    engine._loop.batch.verify = walk if verify == "keyed" else reject
    assert await misfit(engine, SAMPLES[verify], exact(toy(1), root.token_ids, 3), root) > ODDS


async def test_rejection_of_a_draft_models_draws_leaves_the_distribution_as_it_is(engine: Engine) -> None:
    root = await ask(engine)
    assert await misfit(engine, SAMPLES["draft model"], exact(toy(1), root.token_ids, 3), root) > ODDS


def fond_of_drafts(logits: Tensor, walks: Sequence[Walk], ends: frozenset[int]) -> None:
    """Biased: where a token was drafted that may be drawn, it sometimes takes it without drawing."""
    walk(logits, walks, ends)
    for one in walks:
        first = one.draft.likeliest(ROOT)
        if first is not None and one.branch.key % 8 == 0:
            one.choices[:] = [Choice(one.draft.nodes[first].token, 0.0, ())]
            one.accepted.clear()


def one_position(logits: Tensor, walks: Sequence[Walk], ends: frozenset[int]) -> None:
    """Biased: the noise of a branch is the same at all of its positions."""
    for one in walks:
        one.position = 0
    walk(logits, walks, ends)


@pytest.mark.parametrize("verify", [fond_of_drafts, one_position])
async def test_a_biased_verifier_shows(engine: Engine, verify: Verify) -> None:
    root = await ask(engine)
    expected = exact(toy(1), root.token_ids, 3)
    likely = [sequence for sequence, _ in sorted(expected.items(), key=lambda item: -item[1])]
    engine.draft_with(Drafting([Guesses(likely[3:15])], Fixed(32)))
    engine._loop.batch.verify = verify
    assert await misfit(engine, SAMPLES["rejection"], expected, root) < ODDS
