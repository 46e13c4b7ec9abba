"""Requests of the OpenAI backend: messages, sampling parameters, seeds and continued paths."""

from dataclasses import replace

from pydantic import JsonValue

from branchwise.backends.openai.backend import OpenAIBackend
from branchwise.core.messages import Message, Messages, ToolCall
from branchwise.core.sampling import Sampling
from tests.support.fake_server import FakeFeatures
from tests.support.fake_tokenizer import END
from tests.support.openai_backends import (
    TEXT,
    generate,
    make_root,
    serve,
    settings,
)


async def test_requests_have_tools_calls_and_template_options() -> None:
    tool: dict[str, JsonValue] = {"type": "function", "function": {"name": "add", "parameters": {}}}
    messages = Messages(
        turns=(
            Message(role="system", content="Be brief."),
            Message(role="user", content="Add 1 and 2."),
            Message(role="assistant", tool_calls=(ToolCall(id="c1", name="add", arguments='{"a": 1, "b": 2}'),)),
            Message(role="tool", content="3", tool_call_id="c1"),
        ),
        tools=(tool, {"name": "bare", "parameters": {}}),
        thinking=False,
        prefix="It is",
    )
    for features in (TEXT, FakeFeatures()):
        with serve("It is 3.", features) as server:
            backend = await OpenAIBackend.connect(settings(server))
            (branch,) = await generate(backend, await make_root(backend, messages))
            assert branch.text == " 3."
            body = server.requests[-1]
            await backend.close()
            if not features.tokens:
                called = {"name": "add", "arguments": '{"a": 1, "b": 2}'}
                assert body["messages"] == [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "Add 1 and 2."},
                    {
                        "role": "assistant",
                        "content": "",
                        "tool_calls": [{"id": "c1", "type": "function", "function": called}],
                    },
                    {"role": "tool", "content": "3", "tool_call_id": "c1"},
                    {"role": "assistant", "content": "It is"},
                ]
                assert body["tools"] == [tool, {"type": "function", "function": {"name": "bare", "parameters": {}}}]
                assert body["chat_template_kwargs"] == {"enable_thinking": False, "thinking": False}
                assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
            else:
                prompt = server.tokenizer.decode(body["prompt"])  # type: ignore[arg-type]
                assert prompt.endswith("<|assistant|>\nIt is")
                assert '"enable_thinking": false' in prompt
                assert '"name": "bare"' in prompt
                assert "c1" in prompt


async def test_sampling_parameters_are_sent() -> None:
    with serve() as server:
        backend = await OpenAIBackend.connect(settings(server, extra_body={"min_tokens": 2}))
        sampling = Sampling(0.5, top_p=0.9, top_k=7, min_p=0.1, max_tokens=9, stop=("zzz",), logprobs=3)
        await generate(backend, await make_root(backend), sampling)
        body = server.requests[-1]
        sent = {
            name: body[name] for name in ("temperature", "top_p", "top_k", "min_p", "max_tokens", "stop", "logprobs")
        }
        assert sent == {
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 7,
            "min_p": 0.1,
            "max_tokens": 9,
            "stop": ["zzz"],
            "logprobs": 3,
        }
        assert body["min_tokens"] == 2
        await backend.close()


async def test_seeds_depend_on_the_key_and_the_length_of_the_path() -> None:
    with serve() as server:
        backend = await OpenAIBackend.connect(settings(server, concurrency=1))
        start = await make_root(backend)
        server.reset()
        (first, *_) = await generate(backend, start, Sampling(max_tokens=5), keys=(11, 12, 11))
        await generate(backend, first.path(start, 11), keys=(11,))
        one, two, again, further = (body["seed"] for body in server.requests)
        assert one == again
        assert len({one, two, further}) == 3
        await backend.close()


async def test_special_tokens_in_a_question_are_ordinary_text() -> None:
    with serve() as server:
        backend = await OpenAIBackend.connect(settings(server))
        question = f"What does {END}\n<|system|> mean, and <b>this</b>?"
        path = await make_root(backend, question)
        assert server.tokenizer.decode(path.token_ids).count(END) == 2  # the turn's own end, and the question's text
        assert path.token_ids.count(server.tokenizer.encode(END)[0]) == 1
        assert path.token_ids.count(server.tokenizer.encode("<|system|>")[0]) == 0
        plain = await make_root(backend, question.replace("|", "!"))
        assert len(plain.token_ids) == len(path.token_ids)
        await backend.close()


async def test_a_text_path_continues_the_assistants_turn() -> None:
    for features in (TEXT, replace(TEXT, continuation="never")):
        with serve(features=features) as server:
            backend = await OpenAIBackend.connect(settings(server))
            start = await make_root(backend)
            forced = await backend.force(start, "First, 6 times")
            await generate(backend, forced)
            body = server.requests[-1]
            last = body["messages"][-1]  # type: ignore[index]
            assert last == {"role": "assistant", "content": "First, 6 times"}
            assert ("continue_final_message" in body) is (features.continuation == "fields")
            await backend.close()
