"""The contract of every backend: what its events, its ledger and its paths promise, whatever runs the model."""

import asyncio
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from branchwise.backends.base import Backend, Capabilities, ExtendRequest
from branchwise.backends.engine.engine import Engine
from branchwise.backends.extension import BranchEvent, Broken, Ended, Extension, Tokens
from branchwise.backends.scripted import ScriptedBackend
from branchwise.errors import ConfigError
from branchwise.messages import as_messages
from branchwise.path import Path, StopReason
from branchwise.sampling import Sampling

CONTEXT = 512  # of both backends
STORY = "".join(f"Step {i}, so {i} + {i} = {2 * i}. " for i in range(40)).strip()  # 10 tokens a step
RANDOM = Sampling(temperature=1.0, max_tokens=40)
KEYS = (11, 12, 13)


@dataclass
class Heard:
    """Everything one branch said."""

    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    ends: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    ended: list[Ended | Broken] = field(default_factory=list)

    @property
    def reason(self) -> StopReason:
        (end,) = self.ended
        assert isinstance(end, Ended)
        return end.stop_reason

    def path(self, parent: Path, key: int) -> Path:
        ends = tuple(min(end, len(self.text)) for end in self.ends)
        return Path(parent, key, tuple(self.token_ids), self.text, ends, tuple(self.logprobs), None, self.reason)


def scripted() -> ScriptedBackend:
    return ScriptedBackend(lambda path, before: STORY, capabilities=Capabilities(model="scripted", context=CONTEXT))


@pytest.fixture(params=["scripted", "engine"])
def backend(request: pytest.FixtureRequest, tiny_engine: Engine) -> Backend:
    if request.param == "scripted":
        return scripted()
    tiny_engine.clear()
    return tiny_engine


@pytest.fixture(params=["scripted", "engine"])
def fresh(request: pytest.FixtureRequest, make_engine: Callable[[], Engine]) -> Backend:
    """A backend the test may close."""
    return scripted() if request.param == "scripted" else make_engine()


@pytest.fixture
def make_engine(tiny_engine: Engine) -> Callable[[], Engine]:
    shared = tiny_engine
    return lambda: Engine(
        type(shared._model.network)(shared._model.network.config).double(),
        shared._tokenizer,
        name="fresh",
        settings=shared.settings,
    )


async def listen(
    extension: Extension, copies: int, react: Callable[[BranchEvent], None] = lambda _: None
) -> list[Heard]:
    """Hear every branch of a request to its end."""
    heard = [Heard() for _ in range(copies)]
    async with asyncio.timeout(30):
        async for event in extension:
            branch = heard[event.copy]
            assert not branch.ended, "a branch goes on after its end"
            if isinstance(event, Tokens):
                branch.token_ids.extend(event.token_ids)
                branch.text += event.text
                branch.ends.extend(event.ends)
                branch.logprobs.extend(event.logprobs or ())
                assert len(branch.text) <= branch.ends[-1], "text is handed out before its tokens"
            else:
                branch.ended.append(event)
            react(event)
    return heard


async def grow(backend: Backend, path: Path, keys: Sequence[int] = KEYS, sampling: Sampling = RANDOM) -> list[Heard]:
    return await listen(backend.extend(ExtendRequest(path, tuple(keys), sampling)), len(keys))


async def ask(backend: Backend, question: str = "What is 6 times 7?") -> Path:
    return await backend.root(as_messages(question), key=1)


def spelled(backend: Backend, token_ids: Sequence[int]) -> str:
    """What tokens say, decoded all at once."""
    if isinstance(backend, Engine):
        return backend._tokenizer.decode(token_ids, skip_special_tokens=True)
    assert isinstance(backend, ScriptedBackend)
    return "".join(backend._pieces[token] for token in token_ids)


async def test_every_branch_streams_its_tokens_and_ends_once(backend: Backend) -> None:
    for branch in await grow(backend, await ask(backend)):
        assert len(branch.ended) == 1
        assert len(branch.token_ids) == 40
        assert len(branch.ends) == len(branch.logprobs) == 40
        assert all(logprob <= 0 for logprob in branch.logprobs)


async def test_streamed_text_is_what_the_tokens_spell_at_every_token(backend: Backend) -> None:
    for branch in await grow(backend, await ask(backend)):
        assert branch.ends == sorted(branch.ends)
        assert branch.ends[-1] == len(branch.text)
        for count, end in enumerate(branch.ends, 1):
            whole = spelled(backend, branch.token_ids[:count])
            # A character whose last bytes are yet to come is not shown.
            assert whole.startswith(branch.text[:end])
            assert re.fullmatch("\ufffd*", whole[end:])


@pytest.mark.parametrize("limit", [1, 7])
async def test_max_tokens_ends_a_branch_by_length(backend: Backend, limit: int) -> None:
    for branch in await grow(backend, await ask(backend), sampling=Sampling(temperature=1.0, max_tokens=limit)):
        assert branch.reason is StopReason.LENGTH
        assert len(branch.token_ids) == limit


@pytest.mark.parametrize("width", [1, 3])
async def test_a_stop_string_trims_the_text_and_keeps_its_tokens(backend: Backend, width: int) -> None:
    root = await ask(backend)
    (free,) = await grow(backend, root, keys=(11,))
    at = free.ends[19]
    stop = free.text[at - 1 : at - 1 + width]
    (held,) = await grow(backend, root, (11,), Sampling(temperature=1.0, max_tokens=40, stop=("never", stop)))
    assert held.reason is StopReason.STOP
    assert held.text == free.text[: free.text.index(stop)]
    needed = next(i for i, end in enumerate(free.ends, 1) if stop in free.text[:end])
    assert held.token_ids == free.token_ids[:needed]
    assert held.ends == free.ends[:needed]


async def test_a_stop_string_that_never_comes_changes_nothing(backend: Backend) -> None:
    root = await ask(backend)
    free = await grow(backend, root)
    held = await grow(backend, root, sampling=Sampling(temperature=1.0, max_tokens=40, stop=("no such text",)))
    assert [(b.token_ids, b.text, b.ends) for b in held] == [(b.token_ids, b.text, b.ends) for b in free]


async def test_a_cancelled_branch_ends_at_once_and_leaves_the_others_alone(backend: Backend) -> None:
    root, sampling = await ask(backend), Sampling(temperature=1.0, max_tokens=300)
    whole = await grow(backend, root, sampling=sampling)
    extension = backend.extend(ExtendRequest(root, KEYS, sampling))
    heard = await listen(extension, 3, lambda event: extension.cancel(1) if event.copy == 1 else None)
    assert [heard[i].token_ids for i in (0, 2)] == [whole[i].token_ids for i in (0, 2)]
    assert [heard[i].reason for i in (0, 2)] == [whole[i].reason for i in (0, 2)]
    assert heard[1].reason is StopReason.CANCELLED
    assert 1 <= len(heard[1].token_ids) < len(whole[1].token_ids)
    assert heard[1].token_ids == whole[1].token_ids[: len(heard[1].token_ids)]
    (end,) = heard[1].ended
    assert end.cost.discarded == end.cost.sampled == len(heard[1].token_ids)


async def test_each_branch_accounts_for_its_input_and_its_tokens(backend: Backend) -> None:
    root = await ask(backend)
    heard = await grow(backend, root)
    for branch in heard:
        (end,) = branch.ended
        assert end.cost.prompt == end.cost.reused + end.cost.prefilled == len(root.token_ids)
        assert end.cost.sampled == len(branch.token_ids)
        assert end.cost.discarded == 0
        assert end.cost.forward_passes > 0
    assert [branch.ended[0].cost.prefilled for branch in heard] == [len(root.token_ids), 0, 0]


async def test_a_second_request_computes_nothing_again_until_all_is_dropped(backend: Backend) -> None:
    root = await ask(backend)
    await grow(backend, root)
    for branch in await grow(backend, root, keys=(21, 22)):
        assert branch.ended[0].cost.prefilled == 0
    backend.clear()
    (first,) = await grow(backend, root, keys=(23,))
    assert first.ended[0].cost.prefilled == len(root.token_ids)


async def test_a_cut_path_is_continued_from_what_is_held(backend: Backend) -> None:
    root = await ask(backend)
    (first, *_) = await grow(backend, root)
    for length in (1, 20, 39):
        cut = first.path(root, KEYS[0]).cut(length)
        (branch,) = await grow(backend, cut, keys=(31,))
        cost = branch.ended[0].cost
        assert (cost.prompt, cost.reused, cost.prefilled) == (len(root.token_ids) + length,) * 2 + (0,)


async def test_released_paths_can_still_be_asked_for(backend: Backend) -> None:
    root = await ask(backend)
    before = await grow(backend, root)
    backend.release([root, *(branch.path(root, key) for branch, key in zip(before, KEYS, strict=True))])
    assert [b.token_ids for b in await grow(backend, root)] == [b.token_ids for b in before]


async def test_scores_have_a_row_for_each_continuation_and_a_price(backend: Backend) -> None:
    root, texts = await ask(backend), ("It is 42.", "No", "It is 4")
    first, second = await backend.score(root, texts), await backend.score(root, texts)
    lengths = [len((await backend.force(root, text)).token_ids) for text in texts]
    assert [len(row) for row in first.logprobs] == lengths
    assert all(logprob < 0 for row in first.logprobs for logprob in row)
    assert first.cost.prompt == first.cost.reused + first.cost.prefilled == len(root.token_ids)
    assert first.cost.scored == sum(lengths)
    assert (first.cost.sampled, second.cost.prefilled) == (0, 0)
    assert [pytest.approx(row) for row in first.logprobs] == list(second.logprobs)


async def test_forced_text_is_appended_and_continued(backend: Backend) -> None:
    root = await ask(backend)
    (first,) = await grow(backend, root, keys=(11,))
    path = first.path(root, 11).cut(10)
    forced = await backend.force(path, "So the answer is 42, is it?")
    assert forced.forced
    assert forced.answer_text == path.answer_text + "So the answer is 42, is it?"
    assert forced.ends[-1] == len(forced.text)
    assert forced.all_token_ids()[: len(path.all_token_ids())] == path.all_token_ids()
    assert spelled(backend, forced.token_ids) == forced.text
    (branch,) = await grow(backend, forced, keys=(11,))
    assert branch.ended[0].cost.prompt == len(forced.all_token_ids())
    assert branch.ended[0].cost.reused == len(path.all_token_ids())


async def test_a_prompt_longer_than_the_context_is_refused_by_name(backend: Backend) -> None:
    assert backend.capabilities.context == CONTEXT
    with pytest.raises(ConfigError, match=r"^question: .* tokens long, the model's context is 512") as caught:
        await ask(backend, "word " * 600)
    assert caught.value.field == "question"


async def test_closing_ends_what_runs_and_can_be_done_twice(fresh: Backend) -> None:
    extension = fresh.extend(ExtendRequest(await ask(fresh), KEYS, Sampling(temperature=1.0, max_tokens=300)))
    await anext(extension)
    await fresh.close()
    heard = await listen(extension, 3)
    assert StopReason.CANCELLED in [branch.reason for branch in heard]
    await fresh.close()


def test_two_event_loops_may_use_it_at_once(backend: Backend) -> None:
    async def answer(question: str) -> list[list[int]]:
        return [branch.token_ids for branch in await grow(backend, await ask(backend, question))]

    questions = ["What is 6 times 7?", "And 7 times 6?"]
    alone = [asyncio.run(answer(question)) for question in questions]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(lambda question: asyncio.run(answer(question)), questions))
    assert together == alone
