"""Strategies over servers of chat completions: continued as text where they continue it, else refused or a vote."""

from dataclasses import replace

import pytest

import branchwise as bw
from branchwise.backends.openai.continued_text import ContinuedText
from branchwise.backends.openai.endpoint import RestartedTurnError
from branchwise.core.path import Path
from tests.support.fake_server import FakeServer
from tests.support.openai_backends import OPENAI, TEXT

WAYS = {
    "plain": replace(TEXT, continuation="plain", context=4096),
    "fields": replace(TEXT, continuation="fields", context=4096),
    "flag": replace(TEXT, continuation="flag", context=4096, chunk=5, logprobs=False),
    "transcript": replace(TEXT, continuation="never", completes=True, context=4096, usage=False),
}
CONTINUING = ("path-consistency", "prefix-consistency", "beam", "dvts", "mcts", "tot-bfs", "tot-dfs", "best-first")


def script(prompt: str, before: int) -> str:
    """Return a reply of two steps and an answer: 7 in three of four cases."""
    return f"First, add three and four.\nThen check the sum.\nThe answer is {8 if before % 4 == 3 else 7}."


def is_continuation(body: dict[str, object]) -> bool:
    """Return True if a request continues the assistant's turn."""
    messages = body.get("messages")
    return "prompt" in body or (isinstance(messages, list) and messages[-1]["role"] == "assistant")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CONTINUING)
def test_strategies_continue_text(way: str, name: str) -> None:
    with FakeServer(script, WAYS[way]) as server:
        backend = bw.connect(server.url)
        server.reset()
        result = bw.solve_sync("What is 3 + 4?", backend, strategy=f"{name}:paths=8")
        continued = [body for body in server.requests if is_continuation(body)]
    assert (result.answer, result.outcome) == ("7", bw.Outcome.COMPLETE)
    assert any(branch.prefix_chars for branch in result.paths)
    assert continued
    assert all(script("", 0).startswith(branch.path.answer_text.replace("8", "7")) for branch in result.paths)
    assert any("cut between words" in note for note in result.degraded)
    assert any("tokenized again" in note for note in result.degraded)


@pytest.mark.parametrize("name", CONTINUING)
def test_a_server_without_continuation_needs_leave_to_vote(name: str) -> None:
    with FakeServer(script, OPENAI) as server:
        backend = bw.connect(server.url)
        with pytest.raises(bw.ConfigError, match=r"does not continue text; .*--allow-fallback"):
            bw.solve_sync("What is 3 + 4?", backend, strategy=name)
        server.reset()
        result = bw.solve_sync("What is 3 + 4?", backend, strategy=name, allow_fallback=True)
        assert not any(map(is_continuation, server.requests))
    assert result.answer == "7"
    assert any("voted instead" in note for note in result.degraded)


def test_a_look_alike_of_openai_answers_by_default() -> None:
    with FakeServer(script, OPENAI) as server:
        result = bw.solve_sync("What is 3 + 4?", bw.connect(server.url, api_key="sk-secret"))
        assert all(headers["authorization"] == "Bearer sk-secret" for headers in server.headers)
        accepted = [body for body in server.requests if not set(body) & {"max_tokens", "logprobs", "stop"}]
    assert result.answer == "7"
    assert all("temperature" not in body and "max_completion_tokens" in body for body in accepted[-4:])
    assert any("4096 tokens are assumed" in note for note in result.degraded)
    assert any("other temperatures" in note for note in result.degraded)


@pytest.mark.parametrize("refused", [("continue_final_message",), ()])
@pytest.mark.parametrize("name", ["path-consistency:stop_at=none", "prefix-consistency", "beam:value=logprob"])
def test_a_server_that_stops_continuing_costs_the_branches_under_way(name: str, refused: tuple[str, ...]) -> None:
    with FakeServer(script, WAYS["fields"]) as server:
        backend = bw.connect(server.url)
        server.reset()
        server.later, server.change_after = replace(WAYS["fields"], continuation="never", refused=refused), 9
        result = bw.solve_sync("What is 3 + 4?", backend, strategy=name)
    reason = "Unrecognized request argument" if refused else "begins the assistant's turn again"
    assert any(reason in error for error in result.errors)
    if name.startswith("path"):
        assert len(result.paths) >= 16 - 3
    if not name.startswith("beam"):
        assert (result.answer, result.outcome) == ("7", bw.Outcome.COMPLETE)


@pytest.mark.parametrize(
    ("pieces", "kept"),
    [
        (["\n", " \n", "Then"], "Then"),
        (["Then", " b"], "Then b"),
        (["\nFirst, add ", "the other"], "First, add the other"),
    ],
)
def test_white_space_at_the_end_of_a_prefix_is_not_doubled(pieces: list[str], kept: str) -> None:
    root = Path(None, 1, (), "")
    continued = ContinuedText(Path(root, 1, (), "First, add three.\n"))
    assert continued.sent == "First, add three."
    assert "".join(map(continued.read, pieces)) == kept
    assert "".join(map(ContinuedText(Path(root, 1, (), "First")).read, pieces)) == "".join(pieces)


@pytest.mark.parametrize("size", [1, 5, 100])
def test_a_turn_that_begins_again_is_an_error(size: int) -> None:
    text = "First, add three and four.\nThen check the sum."
    continued = ContinuedText(Path(Path(None, 1, (), ""), 1, (), text[:26]))
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    with pytest.raises(RestartedTurnError):
        list(map(continued.read, pieces))
    other = ContinuedText(Path(Path(None, 1, (), ""), 1, (), text[:26]))
    assert other.read("First, add three and five.") == "First, add three and five."
