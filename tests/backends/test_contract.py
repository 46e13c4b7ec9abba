"""The contract of every backend: what its events, its ledger and its paths promise, whatever runs the model."""

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx
import pytest

from branchwise.backends.base import Backend, Capabilities, ExtendRequest
from branchwise.backends.engine.engine import Engine
from branchwise.backends.openai.backend import OpenAIBackend
from branchwise.backends.openai.settings import OpenAISettings
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.backends.stream import BranchEvent, Broken, Ended, Extension, Tokens
from branchwise.core.errors import BackendError, ConfigError
from branchwise.core.messages import as_messages
from branchwise.core.path import Path, StopReason
from branchwise.core.sampling import Sampling
from tests.support.standin import Abilities, Standin

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

    @property
    def whole(self) -> str:
        """The text of all its tokens."""
        (end,) = self.ended
        return self.text + (end.trimmed if isinstance(end, Ended) else "")

    def path(self, parent: Path, key: int) -> Path:
        rows = tuple(self.token_ids), self.whole, tuple(self.ends), tuple(self.logprobs)
        return Path(parent, key, *rows, None, self.reason)


ABLE = {
    "scripted": Capabilities(model="scripted", context=CONTEXT),
    # As little as a server may offer: text in, text out.
    "text": Capabilities(
        model="text",
        context=CONTEXT,
        token_in=False,
        token_out=False,
        prefix_reuse=0,
        per_branch_cancel=False,
        logprobs=False,
        top_k_logprobs=0,
        score=False,
        keyed=False,
    ),
    "blocks": Capabilities(model="blocks", context=CONTEXT, prefix_reuse=4, top_k_logprobs=0),
}


PATIENCE = 30  # seconds
REMOTE = ("openai tokens", "openai text")


def scripted(name: str) -> ScriptedBackend:
    return ScriptedBackend(lambda path, before: STORY, capabilities=ABLE[name])


@pytest.fixture(params=[*ABLE, "engine", "drafting engine", *REMOTE])
def backend(request: pytest.FixtureRequest, tiny_engine: Engine, drafting_engine: Engine) -> Backend:
    if request.param in ABLE:
        return scripted(request.param)
    if request.param in REMOTE:
        return remote(request, request.param)
    return _cleared(drafting_engine if request.param == "drafting engine" else tiny_engine)


@pytest.fixture(params=["scripted", "blocks", "engine", "drafting engine", "openai tokens"])
def exact(request: pytest.FixtureRequest, tiny_engine: Engine, drafting_engine: Engine) -> Backend:
    """A backend that takes and shows tokens."""
    if request.param in ABLE:
        return scripted(request.param)
    if request.param in REMOTE:
        return remote(request, request.param)
    return _cleared(drafting_engine if request.param == "drafting engine" else tiny_engine)


def _cleared(engine: Engine) -> Engine:
    engine.clear()
    return engine


@pytest.fixture(params=["scripted", "text", "engine", *REMOTE])
def fresh(request: pytest.FixtureRequest, make_engine: Callable[[], Engine]) -> Backend:
    """A backend the test may close."""
    if request.param in REMOTE:
        return OpenAIBackend.load(remote(request, request.param).settings)
    return scripted(request.param) if request.param in ABLE else make_engine()


@pytest.fixture(scope="module")
def token_server() -> Iterator[tuple[Standin, OpenAIBackend]]:
    yield from _served(Abilities())


@pytest.fixture(scope="module")
def text_server() -> Iterator[tuple[Standin, OpenAIBackend]]:
    yield from _served(Abilities(tokens=False))


def _served(abilities: Abilities) -> Iterator[tuple[Standin, OpenAIBackend]]:
    with Standin(lambda asked, before: STORY, abilities) as server:
        yield server, OpenAIBackend.load(OpenAISettings((server.url,)))


def remote(request: pytest.FixtureRequest, name: str) -> OpenAIBackend:
    """The backend over a server; a stand-in has forgotten what it was asked."""
    server, backend = request.getfixturevalue("token_server" if name == "openai tokens" else "text_server")
    server.forget()
    assert isinstance(backend, OpenAIBackend)
    return backend


def is_real(backend: Backend) -> bool:
    """Whether a real server answers: equal keys need not give equal tokens there, and it may hold earlier prompts.

    None does here; tests/serving says otherwise.
    """
    return False


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
    async with asyncio.timeout(PATIENCE):
        async for event in extension:
            branch = heard[event.copy]
            assert not branch.ended, "a branch goes on after its end"
            if isinstance(event, Tokens):
                branch.token_ids.extend(event.token_ids)
                branch.text += event.text
                branch.ends.extend(event.ends)
                branch.logprobs.extend(event.logprobs or ())
                assert not branch.ends or len(branch.text) <= branch.ends[-1], "text comes before its tokens"
            else:
                branch.ended.append(event)
            react(event)
    return heard


async def grow(backend: Backend, path: Path, keys: Sequence[int] = KEYS, sampling: Sampling = RANDOM) -> list[Heard]:
    return await listen(backend.extend(ExtendRequest(path, tuple(keys), sampling)), len(keys))


def drawn(backend: Backend, max_tokens: int = 40, stop: tuple[str, ...] = ()) -> Sampling:
    """Sampling that gives one branch the same tokens each time."""
    return Sampling(temperature=0.0 if is_real(backend) else 1.0, max_tokens=max_tokens, stop=stop)


def left_over(backend: Backend, tokens: int) -> int:
    """How many of `tokens` that were seen before are computed again."""
    block = backend.capabilities.prefix_reuse
    return tokens % block if block else tokens


def read_again(backend: Backend, tokens: int) -> int:
    """How many tokens of a prompt that is held whole are computed again: by a server, the last one at least."""
    if isinstance(backend, OpenAIBackend) and backend.capabilities.prefix_reuse:
        return 1 + left_over(backend, tokens - 1)
    return left_over(backend, tokens)


async def ask(backend: Backend, question: str = "What is 6 times 7?") -> Path:
    return await backend.root(as_messages(question), key=1)


def spelled(backend: Backend, token_ids: Sequence[int]) -> str:
    """What tokens say, decoded all at once."""
    if isinstance(backend, Engine):
        return backend._tokenizer.decode(token_ids, skip_special_tokens=True)
    if isinstance(backend, OpenAIBackend):
        asked = {"model": backend.features.model, "tokens": list(token_ids)}
        told = httpx.post(backend.settings.urls[0] + "/detokenize", json=asked).json()
        return re.sub(r"<\|\w+\|>", "", told["prompt"])  # control tokens
    assert isinstance(backend, ScriptedBackend)
    return backend.vocabulary.spell(token_ids)


async def test_every_branch_streams_its_tokens_and_ends_once(backend: Backend) -> None:
    able = backend.capabilities
    for branch in await grow(backend, await ask(backend)):
        assert len(branch.ended) == 1
        assert branch.ended[0].cost.sampled == 40
        assert len(branch.token_ids) == len(branch.ends) == (40 if able.token_out else 0)
        assert len(branch.logprobs) == (40 if able.logprobs else 0)
        assert all(logprob <= 0 for logprob in branch.logprobs)
        assert branch.text


@pytest.mark.parametrize("wanted", [0, 2])
async def test_alternatives_come_with_each_token_as_far_as_the_backend_goes(backend: Backend, wanted: int) -> None:
    able = backend.capabilities
    most = min(wanted, able.top_k_logprobs if able.logprobs else 0)

    def check(event: BranchEvent) -> None:
        if isinstance(event, Tokens):
            assert (event.top_logprobs is None) == (most == 0)
            assert all(1 <= len(row) <= most for row in event.top_logprobs or ())

    sampling = Sampling(temperature=1.0, max_tokens=10, logprobs=most)
    await listen(backend.extend(ExtendRequest(await ask(backend), KEYS, sampling)), 3, check)


async def test_streamed_text_is_what_the_tokens_spell_at_every_token(exact: Backend) -> None:
    backend = exact
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
        assert branch.ended[0].cost.sampled == limit


@pytest.mark.parametrize("width", [1, 3])
async def test_a_stop_string_trims_the_text_and_keeps_its_tokens(exact: Backend, width: int) -> None:
    backend = exact
    root = await ask(backend)
    (free,) = await grow(backend, root, (11,), drawn(backend))
    at = free.ends[19]
    stop = free.text[at - 1 : at - 1 + width]
    (held,) = await grow(backend, root, (11,), drawn(backend, stop=("never", stop)))
    assert held.reason is StopReason.STOP
    assert held.text == free.text[: free.text.index(stop)]
    needed = next(i for i, end in enumerate(free.ends, 1) if stop in free.text[:end])
    assert held.token_ids == free.token_ids[:needed]
    assert held.ends == free.ends[:needed]
    assert held.whole == free.text[: free.ends[needed - 1]]  # what was cut off comes with the end


async def test_text_is_cut_off_by_a_stop_alone(backend: Backend) -> None:
    root = await ask(backend)
    (free,) = await grow(backend, root, (11,), drawn(backend))
    stop = free.text[len(free.text) // 2 :][:2]
    (held,) = await grow(backend, root, (11,), drawn(backend, stop=(stop,)))
    assert held.reason is StopReason.STOP
    assert held.text == free.text[: free.text.index(stop)]
    assert held.whole.startswith(held.text + stop)
    assert free.text.startswith(held.whole)
    assert free.whole == free.text


async def test_a_stop_string_that_never_comes_changes_nothing(backend: Backend) -> None:
    root, keys = await ask(backend), KEYS[:1] if is_real(backend) else KEYS
    free = await grow(backend, root, keys, drawn(backend))
    held = await grow(backend, root, keys, drawn(backend, stop=("no such text",)))
    assert [(b.token_ids, b.text, b.ends) for b in held] == [(b.token_ids, b.text, b.ends) for b in free]


async def test_a_cancelled_branch_ends_at_once_and_leaves_the_others_alone(backend: Backend) -> None:
    root, sampling = await ask(backend), Sampling(temperature=1.0, max_tokens=300)
    whole = await grow(backend, root, sampling=sampling)
    extension = backend.extend(ExtendRequest(root, KEYS, sampling))
    heard = await listen(extension, 3, lambda event: extension.cancel(1) if event.copy == 1 else None)
    if not is_real(backend):
        assert [heard[i].token_ids for i in (0, 2)] == [whole[i].token_ids for i in (0, 2)]
    assert [heard[i].reason for i in (0, 2)] == [whole[i].reason for i in (0, 2)]
    if not backend.capabilities.per_branch_cancel:
        assert heard[1].reason is whole[1].reason
        return
    assert heard[1].reason is StopReason.CANCELLED
    said, all_of_it = (len(branch.token_ids) or branch.ended[0].cost.sampled for branch in (heard[1], whole[1]))
    assert 1 <= said < all_of_it
    if not is_real(backend):
        assert heard[1].token_ids == whole[1].token_ids[: len(heard[1].token_ids)]
        assert whole[1].text.startswith(heard[1].text)
    (end,) = heard[1].ended
    assert end.cost.discarded == end.cost.sampled == said


async def test_a_request_none_of_whose_branches_is_wanted_stops(backend: Backend) -> None:
    extension = backend.extend(ExtendRequest(await ask(backend), KEYS, Sampling(temperature=1.0, max_tokens=300)))
    for copy in range(3):
        extension.cancel(copy)
    for branch in await listen(extension, 3):
        assert branch.reason is StopReason.CANCELLED
        assert branch.ended[0].cost.sampled < 300


async def test_branches_can_be_heard_one_by_one(backend: Backend) -> None:
    root = await ask(backend)
    together = await grow(backend, root)
    streams = backend.extend(ExtendRequest(root, KEYS, RANDOM)).split()
    for stream, branch in reversed(list(zip(streams, together, strict=True))):
        text, event = "", await stream.next()
        while isinstance(event, Tokens):
            text += event.text
            event = await stream.next()
        assert isinstance(event, Ended)
        assert event.stop_reason == branch.reason
        assert text == branch.text or is_real(backend)


async def test_each_branch_accounts_for_its_input_and_its_tokens(backend: Backend) -> None:
    root = await ask(backend)
    heard = await grow(backend, root)
    for branch in heard:
        (end,) = branch.ended
        assert end.cost.prompt == end.cost.reused + end.cost.prefilled > 0
        assert end.cost.prompt == len(root.token_ids) or not root.token_ids  # a server may not show them
        assert end.cost.sampled == 40
        assert end.cost.discarded == 0
        assert end.cost.forward_passes > 0
    given = heard[0].ended[0].cost.prompt
    again, prefilled = read_again(backend, given), [branch.ended[0].cost.prefilled for branch in heard]
    if isinstance(backend, OpenAIBackend):  # which of them came first is the network's to say
        prefilled.sort(reverse=True)
    if is_real(backend):  # it may hold the prompt already, and keep all of it
        assert prefilled in ([again, again, again], [given, again, again], [0, 0, 0], [given, 0, 0])
    else:
        assert prefilled == [given, again, again]


async def test_a_second_request_computes_nothing_again_until_all_is_dropped(backend: Backend) -> None:
    root = await ask(backend)
    await grow(backend, root)
    for branch in await grow(backend, root, keys=(21, 22)):
        again = read_again(backend, branch.ended[0].cost.prompt)
        assert branch.ended[0].cost.prefilled in ((0, again) if is_real(backend) else (again,))
    if isinstance(backend, OpenAIBackend):
        return  # a server drops what it likes
    backend.clear()
    (first,) = await grow(backend, root, keys=(23,))
    assert first.ended[0].cost.prefilled == len(root.token_ids)


async def test_a_cut_path_is_continued_from_what_is_held(exact: Backend) -> None:
    backend = exact
    root = await ask(backend)
    (first, *_) = await grow(backend, root)
    for length in (1, 20, 39):
        cut = first.path(root, KEYS[0]).cut(length)
        (branch,) = await grow(backend, cut, keys=(31,))
        cost = branch.ended[0].cost
        given = len(root.token_ids) + length
        assert (cost.prompt, cost.prefilled) == (given, read_again(backend, given))
        assert cost.reused == cost.prompt - cost.prefilled


async def test_a_path_that_ended_at_a_stop_goes_on_after_it(exact: Backend) -> None:
    root = await ask(exact)
    (free,) = await grow(exact, root, (11,), drawn(exact))
    stop = free.text[free.ends[9] - 1]
    (held,) = await grow(exact, root, (11,), drawn(exact, stop=(stop,)))
    path, count = held.path(root, 11), len(held.token_ids)
    if isinstance(exact, ScriptedBackend):
        assert path.whole_text == exact.vocabulary.spell(path.token_ids)
        return  # what it says next is up to its script
    (rest,) = await grow(exact, path, (11,), drawn(exact, 40 - count))
    assert held.token_ids + rest.token_ids == free.token_ids
    assert held.whole + rest.text == free.text


async def test_released_paths_can_still_be_asked_for(backend: Backend) -> None:
    root = await ask(backend)
    before = await grow(backend, root)
    backend.release([root, *(branch.path(root, key) for branch, key in zip(before, KEYS, strict=True))])
    after = await grow(backend, root)
    assert [b.token_ids for b in after] == [b.token_ids for b in before] or is_real(backend)


async def test_scores_have_a_row_for_each_continuation_and_a_price(exact: Backend) -> None:
    backend = exact
    root, texts = await ask(backend), ("It is 42.", "No", "It is 4")
    first, second = await backend.score(root, texts), await backend.score(root, texts)
    lengths = [len((await backend.force(root, text)).token_ids) for text in texts]
    assert [len(row) for row in first.logprobs] == lengths
    assert all(logprob < 0 for row in first.logprobs for logprob in row)
    over_http = isinstance(backend, OpenAIBackend)  # each text is a request, and reads the path
    requests = len(texts) if over_http else 1
    assert first.cost.prompt == first.cost.reused + first.cost.prefilled == requests * len(root.token_ids)
    assert (first.cost.scored, first.cost.sampled) == (sum(lengths), 0)
    assert second.cost.prefilled == left_over(backend, len(root.token_ids)) or over_http
    close = 0.05 if is_real(backend) else None
    assert [pytest.approx(row, abs=close) for row in first.logprobs] == list(second.logprobs)


async def test_a_backend_without_scores_says_so(backend: Backend) -> None:
    if not backend.capabilities.score:
        with pytest.raises(BackendError, match="score"):
            await backend.score(await ask(backend), ("x",))


async def test_forced_text_is_appended_and_continued(exact: Backend) -> None:
    backend = exact
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
    held = len(path.all_token_ids())
    assert branch.ended[0].cost.reused == held - left_over(backend, held)


async def test_forced_text_is_appended_whether_or_not_it_has_tokens(backend: Backend) -> None:
    root = await ask(backend)
    forced = await backend.force(root, "So the answer is 42.")
    assert (forced.forced, forced.answer_text, forced.parent) == (True, "So the answer is 42.", root)
    assert bool(forced.token_ids) is backend.capabilities.token_out
    (branch,) = await grow(backend, forced, keys=(11,))
    assert branch.ended[0].cost.prompt > len(root.token_ids)


async def test_a_prompt_longer_than_the_context_is_refused_by_name(backend: Backend) -> None:
    context = backend.capabilities.context
    assert context == CONTEXT or is_real(backend)
    question = "word " * (context + 88)
    if isinstance(backend, OpenAIBackend) and not backend.capabilities.token_in:
        (branch,) = await grow(backend, await ask(backend, question), keys=(11,))
        (end,) = branch.ended  # the server alone knows how long it is
        assert isinstance(end, Broken)
        assert "context" in str(end.error)
        assert not (isinstance(end.error, BackendError) and end.error.retryable)
        return
    with pytest.raises(ConfigError, match=rf"^question: .* tokens long, the model's context is {context}") as caught:
        await ask(backend, question)
    assert caught.value.field == "question"


async def test_closing_ends_what_runs_and_can_be_done_twice(fresh: Backend) -> None:
    extension = fresh.extend(ExtendRequest(await ask(fresh), KEYS, Sampling(temperature=1.0, max_tokens=300)))
    await anext(extension)
    await fresh.close()
    heard = await listen(extension, 3)
    broken = [end.error for branch in heard for end in branch.ended if isinstance(end, Broken)]
    assert broken  # the last of them may have come to its end in time
    assert all(isinstance(error, BackendError) and not error.retryable for error in broken)
    with pytest.raises(BackendError, match="closed"):
        await grow(fresh, Path(None, 1, (1, 2, 3), "", messages=as_messages("q")))
    await fresh.close()


def test_two_event_loops_may_use_it_at_once(backend: Backend) -> None:
    async def answer(question: str) -> list[list[int]]:
        return [branch.token_ids for branch in await grow(backend, await ask(backend, question))]

    questions = ["What is 6 times 7?", "And 7 times 6?"]
    alone = [asyncio.run(answer(question)) for question in questions]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(lambda question: asyncio.run(answer(question)), questions))
    assert together == alone or is_real(backend)


# The scripted backend alone


async def test_a_script_that_fails_for_one_branch_leaves_none_running() -> None:
    def script(path: Path, before: int) -> Reply:
        if before == 2:
            raise LookupError("no more to say")
        return Reply("word " * 100, delay=0.01)

    backend = ScriptedBackend(script)
    with pytest.raises(LookupError):
        backend.extend(ExtendRequest(await ask(backend), KEYS, RANDOM))
    assert not backend.running


async def test_closing_waits_for_what_runs() -> None:
    backend = ScriptedBackend(lambda path, before: Reply("word " * 100, delay=0.01))
    extension = backend.extend(ExtendRequest(await ask(backend), KEYS, RANDOM))
    await anext(extension)
    assert len(backend.running) == 3
    await backend.close()
    assert not backend.running


@pytest.mark.parametrize("chunk", [1, 3, 100])
async def test_a_reply_says_the_same_in_pieces_of_any_size(chunk: int) -> None:
    backend = ScriptedBackend(lambda path, before: Reply(STORY, chunk=chunk))
    sampling = Sampling(max_tokens=40, stop=("so 3",))
    (branch,) = await grow(backend, await ask(backend), (1,), sampling)
    assert (branch.reason, branch.text) == (StopReason.STOP, STORY[: STORY.index("so 3")])
    assert branch.whole == backend.vocabulary.spell(branch.token_ids)
    assert branch.ends == list(backend.vocabulary.ends(branch.token_ids))
    assert len(branch.logprobs) == len(branch.token_ids)
