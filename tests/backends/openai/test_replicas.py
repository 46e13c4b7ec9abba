"""Requests over several replicas of a server."""

import asyncio

import branchwise as bw
from branchwise.backends.openai.backend import OpenAIBackend
from branchwise.backends.openai.replicas import Replicas
from tests.support.fake_responses import FakeReply
from tests.support.openai_backends import (
    ANSWER,
    generate,
    make_root,
    serve,
    settings,
)


def test_a_prompt_stays_on_its_replica_while_that_is_reachable() -> None:
    now = 0.0
    replicas = Replicas(["http://a", "http://b", "http://c"], clock=lambda: now)
    prompts = [str(i).encode() for i in range(300)]
    homes = {prompt: replicas.choose(prompt) for prompt in prompts}
    assert min(sum(home is one for home in homes.values()) for one in replicas.all) > 60  # 100 each, +-8 at 1 sigma
    lost = replicas.all[1]
    replicas.mark_unreachable(lost)
    moved = {prompt: replicas.choose(prompt) for prompt in prompts}
    assert all(moved[prompt] is home for prompt, home in homes.items() if home is not lost)
    assert lost not in moved.values()
    lonely = next(prompt for prompt in prompts if homes[prompt] is lost)
    moved[lonely].in_flight = 5
    assert replicas.choose(lonely) not in (lost, moved[lonely])  # the replica with fewer requests
    moved[lonely].in_flight = 0
    now = 1.0
    assert replicas.choose(lonely) is lost  # tried again after its pause
    replicas.mark_unreachable(lost)
    now = 2.5
    assert replicas.choose(lonely) is not lost  # skipped for twice as long
    now = 3.0
    replicas.mark_reachable(lost)
    replicas.mark_unreachable(lost)
    now = 4.0
    assert replicas.choose(lonely) is lost


def test_the_only_replica_is_tried_again() -> None:
    replicas = Replicas(["http://a"], clock=lambda: 0.0)
    (only,) = replicas.all
    replicas.mark_unreachable(only)
    assert replicas.choose(b"x", avoid=only) is only


async def test_branches_move_to_another_replica_if_theirs_dies() -> None:
    with serve(FakeReply(ANSWER, delay=0.01)) as one, serve(FakeReply(ANSWER, delay=0.01)) as two:
        backend = await OpenAIBackend.connect(settings(one, two))
        start = await make_root(backend)
        one.reset()
        two.reset()
        await generate(backend, start, keys=range(6))
        assert sorted([len(one.requests), len(two.requests)]) == [0, 6]
        home, other = (one, two) if one.requests else (two, one)
        strategy = bw.SelfConsistency(paths=6)
        task = asyncio.create_task(bw.solve("What is 6 times 7?", backend, strategy=strategy))
        while home.running < 6 and other.running < 6:  # noqa: ASYNC110 (in a thread of its own)
            await asyncio.sleep(0.005)
        (home if home.running else other).kill()
        result = await task
        assert (result.answer, len(result.paths), result.errors) == ("42", 6, ())
        assert all(branch.path.answer_text == ANSWER for branch in result.paths)
        await backend.close()


async def test_a_replica_that_never_responds_is_skipped() -> None:
    with serve() as dead, serve() as alive:
        dead.kill()
        backend = await OpenAIBackend.connect(settings(dead, alive))
        for question in ("a?", "b?", "c?", "d?"):
            (branch,) = await generate(backend, await make_root(backend, question))
            assert branch.text == ANSWER
        await backend.close()
