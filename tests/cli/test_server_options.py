"""`branchwise solve` over a server: its context, and strategies that it can't run."""

from dataclasses import replace

import pytest

from tests.support.commands import run
from tests.support.fake_server import FakeServer
from tests.support.openai_backends import ANSWER, OPENAI, TEXT

PATHS = ("What is 6 times 7?", "--strategy", "path-consistency", "--paths", "4")


def test_an_unreported_context_is_noted_and_can_be_given() -> None:
    with FakeServer(lambda prompt, before: ANSWER, OPENAI) as server:
        assumed, given = (
            run("solve", "What is 6 times 7?", "--base-url", server.url, "--paths", "2", *context)
            for context in ((), ("--context", "9000"))
        )
    assert "4096 tokens are assumed" in assumed.stdout
    assert (given.returncode, "are assumed" in given.stdout) == (0, False)
    assert "42" in given.stdout


def test_a_vote_in_place_of_a_strategy_needs_leave_and_warns() -> None:
    with FakeServer(lambda prompt, before: ANSWER, OPENAI) as server:
        refused = run("solve", *PATHS, "--base-url", server.url)
        allowed = run("solve", *PATHS, "--base-url", server.url, "--allow-fallback")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "path-consistency continues paths" in refused.stderr
    assert "--allow-fallback" in refused.stderr
    assert allowed.returncode == 0
    assert allowed.stderr.startswith("warning: path-consistency: the server does not continue text")
    assert "voted instead" in allowed.stdout


def test_a_server_that_continues_turns_warns_of_nothing() -> None:
    with FakeServer(lambda prompt, before: ANSWER, replace(TEXT, continuation="plain")) as server:
        done = run("solve", *PATHS, "--base-url", server.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "cut between words" in done.stdout


@pytest.mark.parametrize("command", [("solve", "q"), ("serve",), ("mcp",)])
def test_a_context_needs_a_server(command: tuple[str, ...]) -> None:
    done = run(*command, "--context", "4096")
    assert done.returncode == 2
    assert "context" in done.stderr
