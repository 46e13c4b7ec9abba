"""The contract of every backend: usage, prefix reuse, scores and forced text."""

import pytest

from branchwise.backends.base import Backend
from branchwise.backends.openai.backend import OpenAIBackend
from branchwise.core.errors import BackendError
from tests.support import contract
from tests.support.contract import KEYS, generate, make_root, recomputed, recomputed_prompt


async def test_each_branch_counts_its_prompt_and_its_tokens(backend: Backend) -> None:
    root = await make_root(backend)
    branches = await generate(backend, root)
    for branch in branches:
        (end,) = branch.ended
        assert end.cost.prompt == end.cost.reused + end.cost.prefilled > 0
        assert end.cost.prompt == len(root.token_ids) or not root.token_ids  # a server need not return them
        assert end.cost.sampled == 40
        assert end.cost.discarded == 0
        assert end.cost.forward_passes > 0
    given = branches[0].ended[0].cost.prompt
    again, prefilled = recomputed_prompt(backend, given), [branch.ended[0].cost.prefilled for branch in branches]
    if isinstance(backend, OpenAIBackend):  # they may reach the server in any order
        prefilled.sort(reverse=True)
    if contract.is_real_server(backend):  # its cache may contain all of the prompt
        assert prefilled in ([again, again, again], [given, again, again], [0, 0, 0], [given, 0, 0])
    else:
        assert prefilled == [given, again, again]


async def test_a_second_request_reuses_the_prompt_until_the_cache_is_cleared(backend: Backend) -> None:
    root = await make_root(backend)
    await generate(backend, root)
    for branch in await generate(backend, root, keys=(21, 22)):
        again = recomputed_prompt(backend, branch.ended[0].cost.prompt)
        assert branch.ended[0].cost.prefilled in ((0, again) if contract.is_real_server(backend) else (again,))
    if isinstance(backend, OpenAIBackend):
        return  # a server manages its own cache
    backend.clear()
    (first,) = await generate(backend, root, keys=(23,))
    assert first.ended[0].cost.prefilled == len(root.token_ids)


async def test_a_cut_path_reuses_its_cached_prefix(exact: Backend) -> None:
    root = await make_root(exact)
    (first, *_) = await generate(exact, root)
    for length in (1, 20, 39):
        cut = first.path(root, KEYS[0]).cut(length)
        (branch,) = await generate(exact, cut, keys=(31,))
        cost = branch.ended[0].cost
        given = len(root.token_ids) + length
        assert (cost.prompt, cost.prefilled) == (given, recomputed_prompt(exact, given))
        assert cost.reused == cost.prompt - cost.prefilled


async def test_released_paths_can_still_be_continued(backend: Backend) -> None:
    root = await make_root(backend)
    before = await generate(backend, root)
    backend.release([root, *(branch.path(root, key) for branch, key in zip(before, KEYS, strict=True))])
    after = await generate(backend, root)
    assert [b.token_ids for b in after] == [b.token_ids for b in before] or contract.is_real_server(backend)


async def test_scores_have_a_row_for_each_continuation(exact: Backend) -> None:
    root, texts = await make_root(exact), ("It is 42.", "No", "It is 4")
    first, second = await exact.score(root, texts), await exact.score(root, texts)
    lengths = [len((await exact.force(root, text)).token_ids) for text in texts]
    assert [len(row) for row in first.logprobs] == lengths
    assert all(logprob < 0 for row in first.logprobs for logprob in row)
    over_http = isinstance(exact, OpenAIBackend)  # each text is a request that prefills the path
    requests = len(texts) if over_http else 1
    assert first.cost.prompt == first.cost.reused + first.cost.prefilled == requests * len(root.token_ids)
    assert (first.cost.scored, first.cost.sampled) == (sum(lengths), 0)
    assert second.cost.prefilled == recomputed(exact, len(root.token_ids)) or over_http
    close = 0.05 if contract.is_real_server(exact) else None
    assert [pytest.approx(row, abs=close) for row in first.logprobs] == list(second.logprobs)


async def test_a_backend_without_scores_raises(backend: Backend) -> None:
    if not backend.capabilities.score:
        with pytest.raises(BackendError, match="score"):
            await backend.score(await make_root(backend), ("x",))


async def test_forced_text_is_appended_and_continued(exact: Backend) -> None:
    root = await make_root(exact)
    (first,) = await generate(exact, root, keys=(11,))
    path = first.path(root, 11).cut(10)
    forced = await exact.force(path, "So the answer is 42, is it?")
    assert forced.forced
    assert forced.answer_text == path.answer_text + "So the answer is 42, is it?"
    assert forced.ends[-1] == len(forced.text)
    assert forced.all_token_ids()[: len(path.all_token_ids())] == path.all_token_ids()
    assert contract.decode(exact, forced.token_ids) == forced.text
    (branch,) = await generate(exact, forced, keys=(11,))
    assert branch.ended[0].cost.prompt == len(forced.all_token_ids())
    cached = len(path.all_token_ids())
    assert branch.ended[0].cost.reused == cached - recomputed(exact, cached)


async def test_forced_text_is_appended_by_every_backend(backend: Backend) -> None:
    root = await make_root(backend)
    forced = await backend.force(root, "So the answer is 42.")
    assert (forced.forced, forced.answer_text, forced.parent) == (True, "So the answer is 42.", root)
    assert bool(forced.token_ids) is backend.capabilities.token_out
    (branch,) = await generate(backend, forced, keys=(11,))
    assert branch.ended[0].cost.prompt > len(root.token_ids)
