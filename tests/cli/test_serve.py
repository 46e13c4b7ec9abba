"""`branchwise serve`, as a process of its own."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import openai
import pytest
from pydantic import JsonValue
from typer.testing import CliRunner

import branchwise as bw
from branchwise.cli.main import app
from tests.support.commands import COMMAND, refused, run
from tests.support.served import Process, served

NAME = "SmolLM2-135M-Instruct"


def long(model: Path) -> dict[str, JsonValue]:
    """A question that takes a while."""
    return {
        "model": str(model),
        "messages": [{"role": "user", "content": "q"}],
        "branchwise": {"strategy": "self-consistency", "paths": 16},
        "max_tokens": 400,
    }


async def stopped(
    server: Process, url: str, body: dict[str, JsonValue], key: str, signals: int
) -> httpx.Response | None:
    """The response to a question while which the server is told to stop so many times; None where it broke off."""
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as http:
        asking = asyncio.create_task(http.post("/v1/chat/completions", json=body))
        while "branchwise_questions_running 1.0" not in (await http.get("/metrics")).text:
            assert not asking.done()
            await asyncio.sleep(0.01)
        for _ in range(signals):
            server.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.05)
        (response,) = await asyncio.gather(asking, return_exceptions=True)
        return response if isinstance(response, httpx.Response) else None


def test_it_says_where_it_listens_and_ends_when_questions_have(tiny_model_folder: Path) -> None:
    with served("--model", str(tiny_model_folder), "--max-paths", "16", "--max-tokens", "2000") as server:
        done = subprocess.run(["bash", "-c", server.curl], capture_output=True, text=True, timeout=60, check=True)
        reply = json.loads(done.stdout)
        assert reply["branchwise"]["strategy"] == "adaptive-path-consistency"
        assert reply["branchwise"]["usage"]["sampled"] > 0
        with httpx.Client(base_url=server.url, timeout=60) as http:
            assert http.get("/health").json() == {"status": "ok"}
            assert 'status="200"' in http.get("/metrics").text
            response = http.post("/v1/chat/completions", json={**long(tiny_model_folder), "n": 17, "branchwise": None})
            assert response.json()["error"]["param"] == "n"
        last = asyncio.run(stopped(server, server.url, long(tiny_model_folder), "none", 1))
        assert last is not None
        assert last.json()["branchwise"]["outcome"] in ("complete", "no_answer", "tokens_spent")
        assert server.stop() == 0
    assert any("route=/v1/chat/completions" in line and "status=200" in line for line in server.log), server.log
    assert not any("17 * 23" in line for line in server.log)


def test_it_asks_for_keys_logs_json_and_heeds_a_second_signal(tiny_model_folder: Path) -> None:
    options = ("--log-format", "json", "--strategy", "esc:window=2", "--api-key-env", "MY_KEYS", "--host", "0.0.0.0")
    with served("--model", str(tiny_model_folder), *options, chosen={"MY_KEYS": "sk-a,sk-b"}) as server:
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        assert "Authorization: Bearer YOUR-KEY" in server.curl
        for key, status in (("sk-b", 200), ("sk-c", 401)):
            response = httpx.get(f"{url}/v1/models", headers={"authorization": f"Bearer {key}"})
            assert response.status_code == status
        body = {**long(tiny_model_folder), "max_tokens": 8, "branchwise": {"paths": 4}}
        headers = {"authorization": "Bearer sk-a"}
        told = httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60).json()
        assert told["branchwise"]["strategy"] == "esc:window=2"
        last = asyncio.run(stopped(server, url, long(tiny_model_folder), "sk-a", 2))
        assert last is None or last.json()["branchwise"]["outcome"] == "cancelled"
        assert server.stop() == 0
    lines = [json.loads(line) for line in server.log if line.startswith("{")]
    assert {line["event"] for line in lines} >= {"request", "question"}
    assert [line["status"] for line in lines if line.get("route") == "/v1/models"] == [200]
    assert [line["status"] for line in lines if line.get("route") == "none"] == [401]
    assert not any("sk-" in line for line in [*server.log, *server.greeting])


def test_a_host_that_others_reach_takes_a_key() -> None:
    done = run("serve", "--host", "0.0.0.0", chosen={"BRANCHWISE_API_KEY": ""})
    assert refused(done, "--host: 0.0.0.0 is reached from other machines, and BRANCHWISE_API_KEY has no API key")


REFUSED = [
    ("--strategy nosuch", "strategy: 'nosuch' is unknown"),
    ("--strategy best-of-n:value=verifier", "add --verifier"),
    ("--max-paths 0", "max_paths: is 0"),
    ("--queue -1", "queue: is -1"),
    ("--drain-seconds -1", "drain_seconds: is -1"),
    ("--log-format xml", "log_format: is 'xml'"),
    ("--port 99999", "port: is 99999"),
    ("--host no-such-host.invalid --no-auth", "host: 'no-such-host.invalid' is no host"),
    ("--host :: --api-key-env NO_SUCH_KEYS", "--no-auth"),
    ("--no-auth --api-key-env PATH", "no_auth: is given, but PATH has keys"),
    ("--model no-such-model", "no-such-model"),
    ("--backend nosuch", "backend: is 'nosuch'"),
    ("--backend openai", "add --base-url"),
    ("--base-url http://localhost:1 --backend vllm", "base_url: is given, but vllm runs"),
    ("--base-url http://localhost:1 --dtype float32", "dtype: is not for openai to set"),
    ("--verifier nosuch", "nosuch"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_what_makes_no_sense_is_refused_before_anything_is_loaded(arguments: str, message: str) -> None:
    done = CliRunner().invoke(app, ["serve", *arguments.split()])
    assert isinstance(done.exception, bw.BranchwiseError), done.output
    assert message in str(done.exception)


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "fastapi.py").write_text("raise ImportError('hidden', name='fastapi')\n")
    done = run("serve", "--port", "0", chosen={"PYTHONPATH": str(tmp_path)})
    assert refused(done, "pip install 'branchwise[server]'")
    others = subprocess.run(
        [*COMMAND, "strategies"],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert others.returncode == 0


def test_the_other_commands_do_not_import_the_server() -> None:
    code = "import branchwise.cli.main, sys; print([m for m in ('fastapi', 'uvicorn', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.model
def test_a_real_model_is_served() -> None:
    with served("--model", NAME) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
        with client:
            question: list[openai.types.chat.ChatCompletionMessageParam] = [
                {"role": "user", "content": "What is the capital of France? Answer with one word."}
            ]
            plain = client.chat.completions.create(model=NAME, messages=question, temperature=0, max_tokens=16)
            assert "Paris" in (plain.choices[0].message.content or "")
            stream = client.chat.completions.create(
                model=NAME, messages=question, temperature=0, max_tokens=16, stream=True
            )
            texts = [chunk.choices[0].delta.content or "" for chunk in stream]
            assert "".join(texts) == plain.choices[0].message.content
            voted = client.chat.completions.create(
                model=f"{NAME}@self-consistency",
                messages=[{"role": "user", "content": "What is 2 + 2? End with: The answer is"}],
                max_tokens=48,
                seed=1,
                extra_body={"branchwise": {"paths": 4}},
            )
            told = (voted.model_extra or {})["branchwise"]
            assert sum(told["votes"].values()) <= 4
            assert told["usage"]["prompt"] == told["usage"]["reused"] + told["usage"]["prefilled"]
            assert told["usage"]["reused"] > 0
        assert server.stop(signal.SIGTERM) == 0
