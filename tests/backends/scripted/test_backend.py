"""The scripted backend, beyond the contract of every backend."""

import pytest

from branchwise.backends.base import ExtendRequest
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.core.path import Path, StopReason
from branchwise.core.sampling import Sampling
from tests.support.contract import KEYS, SAMPLING, STORY, generate, make_root


async def test_a_script_that_raises_for_one_branch_starts_none() -> None:
    def script(path: Path, before: int) -> Reply:
        if before == 2:
            raise LookupError("no more replies")
        return Reply("word " * 100, delay=0.01)

    backend = ScriptedBackend(script)
    with pytest.raises(LookupError):
        backend.extend(ExtendRequest(await make_root(backend), KEYS, SAMPLING))
    assert not backend.running


async def test_closing_waits_for_running_branches() -> None:
    backend = ScriptedBackend(lambda path, before: Reply("word " * 100, delay=0.01))
    extension = backend.extend(ExtendRequest(await make_root(backend), KEYS, SAMPLING))
    await anext(extension)
    assert len(backend.running) == 3
    await backend.close()
    assert not backend.running


@pytest.mark.parametrize("chunk", [1, 3, 100])
async def test_a_reply_is_the_same_in_chunks_of_any_size(chunk: int) -> None:
    backend = ScriptedBackend(lambda path, before: Reply(STORY, chunk=chunk))
    sampling = Sampling(max_tokens=40, stop=("so 3",))
    (branch,) = await generate(backend, await make_root(backend), (1,), sampling)
    assert (branch.stop_reason, branch.text) == (StopReason.STOP, STORY[: STORY.index("so 3")])
    assert branch.whole_text == backend.vocabulary.decode(branch.token_ids)
    assert branch.ends == list(backend.vocabulary.ends(branch.token_ids))
    assert len(branch.logprobs) == len(branch.token_ids)
