"""`branchwise serve` in a process of its own: greeting, signals, keys, logs and rejected options."""

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
from tests.support.commands import COMMAND, assert_rejected, run
from tests.support.served import Server, served

NAME = "SmolLM2-135M-Instruct"


def long_request(model: Path) -> dict[str, JsonValue]:
    """Return a request that takes several seconds."""
    return {
        "model": str(model),
        "messages": [{"role": "user", "content": "q"}],
        "branchwise": {"strategy": "self-consistency", "paths": 16},
        "max_tokens": 400,
    }


async def stop_while_answering(
    server: Server, url: str, body: dict[str, JsonValue], key: str, signals: int
) -> httpx.Response | None:
    """Send signals while the server answers; return the response, or None if the connection was closed."""
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


def test_the_greeting_works_and_a_signal_waits_for_questions(tiny_model_folder: Path) -> None:
    with served("--model", str(tiny_model_folder), "--max-paths", "16", "--max-tokens", "2000") as server:
        done = subprocess.run(["bash", "-c", server.curl], capture_output=True, text=True, timeout=60, check=True)
        reply = json.loads(done.stdout)
        assert reply["branchwise"]["strategy"] == "adaptive-path-consistency"
        assert reply["branchwise"]["usage"]["sampled"] > 0
        with httpx.Client(base_url=server.url, timeout=60) as http:
            assert http.get("/health").json() == {"status": "ok"}
            assert 'status="200"' in http.get("/metrics").text
            response = http.post(
                "/v1/chat/completions", json={**long_request(tiny_model_folder), "n": 17, "branchwise": None}
            )
            assert response.json()["error"]["param"] == "n"
        last = asyncio.run(stop_while_answering(server, server.url, long_request(tiny_model_folder), "none", 1))
        assert last is not None
        assert last.json()["branchwise"]["outcome"] in ("complete", "no_answer", "tokens_spent")
        assert server.stop() == 0
    assert any("route=/v1/chat/completions" in line and "status=200" in line for line in server.log), server.log
    assert not any("17 * 23" in line for line in server.log)


def test_keys_json_logs_and_a_second_signal(tiny_model_folder: Path) -> None:
    options = ("--log-format", "json", "--strategy", "esc:window=2", "--api-key-env", "MY_KEYS", "--host", "0.0.0.0")
    with served("--model", str(tiny_model_folder), *options, env={"MY_KEYS": "sk-a,sk-b"}) as server:
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        assert "Authorization: Bearer YOUR-KEY" in server.curl
        for key, status in (("sk-b", 200), ("sk-c", 401)):
            response = httpx.get(f"{url}/v1/models", headers={"authorization": f"Bearer {key}"})
            assert response.status_code == status
        body = {**long_request(tiny_model_folder), "max_tokens": 8, "branchwise": {"paths": 4}}
        headers = {"authorization": "Bearer sk-a"}
        reply = httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60).json()
        assert reply["branchwise"]["strategy"] == "esc:window=2"
        last = asyncio.run(stop_while_answering(server, url, long_request(tiny_model_folder), "sk-a", 2))
        assert last is None or last.json()["branchwise"]["outcome"] == "cancelled"
        assert server.stop() == 0
    lines = [json.loads(line) for line in server.log if line.startswith("{")]
    assert {line["event"] for line in lines} >= {"request", "question"}
    assert [line["status"] for line in lines if line.get("route") == "/v1/models"] == [200]
    assert [line["status"] for line in lines if line.get("route") == "none"] == [401]
    assert not any("sk-" in line for line in [*server.log, *server.greeting])


def test_a_public_host_needs_a_key() -> None:
    done = run("serve", "--host", "0.0.0.0", env={"BRANCHWISE_API_KEY": ""})
    assert_rejected(done, "--host: 0.0.0.0 can be reached from other machines, and BRANCHWISE_API_KEY has no API key")


REJECTED = [
    ("--strategy nosuch", "strategy: 'nosuch' is unknown"),
    ("--strategy best-of-n:value=verifier", "add --verifier"),
    ("--max-paths 0", "max_paths: is 0"),
    ("--queue -1", "queue: is -1"),
    ("--drain-seconds -1", "drain_seconds: is -1"),
    ("--log-format xml", "log_format: is 'xml'"),
    ("--port 99999", "port: is 99999"),
    ("--host no-such-host.invalid --no-auth", "host: 'no-such-host.invalid' is not a host"),
    ("--host :: --api-key-env NO_SUCH_KEYS", "--no-auth"),
    ("--no-auth --api-key-env PATH", "no_auth: is set, but PATH has keys"),
    ("--model no-such-model", "no-such-model"),
    ("--backend nosuch", "backend: is 'nosuch'"),
    ("--backend openai", "add --base-url"),
    ("--base-url http://localhost:1 --backend vllm", "base_url: is set, but vllm runs"),
    ("--base-url http://localhost:1 --dtype float32", "dtype: is not supported by the backend openai"),
    ("--verifier nosuch", "nosuch"),
]


@pytest.mark.parametrize(("arguments", "message"), REJECTED)
def test_invalid_options_are_rejected_before_anything_is_loaded(arguments: str, message: str) -> None:
    done = CliRunner().invoke(app, ["serve", *arguments.split()])
    assert isinstance(done.exception, bw.BranchwiseError), done.output
    assert message in str(done.exception)


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "fastapi.py").write_text("raise ImportError('hidden', name='fastapi')\n")
    done = run("serve", "--port", "0", env={"PYTHONPATH": str(tmp_path)})
    assert_rejected(done, "pip install 'branchwise[server]'")
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
            reply = (voted.model_extra or {})["branchwise"]
            assert sum(reply["votes"].values()) <= 4
            assert reply["usage"]["prompt"] == reply["usage"]["reused"] + reply["usage"]["prefilled"]
            assert reply["usage"]["reused"] > 0
        assert server.stop(signal.SIGTERM) == 0
