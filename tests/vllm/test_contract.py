"""The contract of every backend, for vLLM in this process."""

from collections.abc import Sequence
from pathlib import Path as FilePath

import pytest

from branchwise.backends.vllm.backend import VLLMBackend
from branchwise.core.sampling import Sampling
from tests.support import contract
from tests.support.contract import generate, make_root, recomputed
from tests.vllm.contract import contract_without
from tests.vllm.tiny import tiny_settings

globals().update(
    contract_without(
        "test_a_stopped_path_continues_after_the_stop_string",  # vLLM seeds new noise there
        "test_scores_have_a_row_for_each_continuation",  # each is a request of its own
    )
)


@pytest.fixture
def backend(tiny: VLLMBackend) -> VLLMBackend:
    tiny.clear()
    return tiny


@pytest.fixture
def exact(backend: VLLMBackend) -> VLLMBackend:
    return backend


@pytest.fixture
def fresh(tiny_folder: FilePath) -> VLLMBackend:
    """A backend the test may close."""
    return VLLMBackend.load(str(tiny_folder), tiny_settings())


@pytest.fixture(autouse=True)
def decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode with the backend's own tokenizer."""

    def decode(backend: VLLMBackend, token_ids: Sequence[int]) -> str:
        return str(backend._prompts.tokenizer.decode(token_ids, skip_special_tokens=True))

    monkeypatch.setattr(contract, "decode", decode)


async def test_a_stopped_path_continues_with_new_noise(backend: VLLMBackend) -> None:
    root = await make_root(backend)
    (free,) = await generate(backend, root, keys=(11,))
    stop = free.text[free.ends[9] - 1]
    (stopped,) = await generate(backend, root, (11,), Sampling(temperature=1.0, max_tokens=40, stop=(stop,)))
    path = stopped.path(root, 11)
    twice = [await generate(backend, path, (11,), Sampling(temperature=1.0, max_tokens=10)) for _ in range(2)]
    assert twice[0][0].token_ids == twice[1][0].token_ids  # the same noise, other than that of the path's beginning
    assert twice[0][0].ended[0].cost.prompt == len(path.all_token_ids())


async def test_each_continuation_is_scored_by_a_request(backend: VLLMBackend) -> None:
    root, texts = await make_root(backend), ("It is 42.", "No", "It is 4")
    first, second = await backend.score(root, texts), await backend.score(root, texts)
    lengths = [len((await backend.force(root, text)).token_ids) for text in texts]
    assert [len(row) for row in first.logprobs] == lengths
    assert all(logprob < 0 for row in first.logprobs for logprob in row)
    assert first.cost.prompt == first.cost.reused + first.cost.prefilled == 3 * len(root.token_ids)
    assert first.cost.scored == sum(lengths)
    again = recomputed(backend, len(root.token_ids))
    assert (first.cost.prefilled, second.cost.prefilled) == (len(root.token_ids) + 2 * again, 3 * again)
    assert first.cost.sampled == second.cost.sampled == 0
    assert [pytest.approx(row, abs=1e-4) for row in first.logprobs] == list(second.logprobs)
