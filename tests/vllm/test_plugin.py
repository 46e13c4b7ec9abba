"""The plugin of `vllm serve`: queue, limits, metrics, and what vLLM does for its own routes."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from pydantic import JsonValue

from tests.support.malformed import malformed_bodies
from tests.vllm.servers import Server, serving_plugin, wait_until

CHAT, NATIVE = "/v1/chat/completions", "/v1/branchwise"
BODY_BYTES = 6000
LIMITS = {
    "BRANCHWISE_MAX_QUESTIONS": "2",
    "BRANCHWISE_QUEUE": "1",
    "BRANCHWISE_MAX_BODY_BYTES": str(BODY_BYTES),
    "BRANCHWISE_MAX_PATHS": "4",
    "BRANCHWISE_LOG_FORMAT": "json",
}
MIDDLEWARE = """
class Marked:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def marked(message):
            if message["type"] == "http.response.start":
                message["headers"].append((b"x-marked", b"yes"))
            await send(message)

        await self.app(scope, receive, marked if scope["type"] == "http" else send)
"""
KEY: dict[str, JsonValue] = {"strategy": "self-consistency", "paths": 2, "answers": "math"}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plugin") / "log"


@pytest.fixture(scope="module")
def plugin(tiny_folder: Path, log: Path) -> Iterator[Server]:
    """A server of the tiny model, whose paths only end at their length."""
    log.with_name("marked.py").write_text(MIDDLEWARE)
    options = ["--enable-server-load-tracking", "--enable-request-id-headers", "--middleware", "marked.Marked"]
    environment = LIMITS | {"PYTHONPATH": str(log.parent)}
    with serving_plugin(tiny_folder, log, options, environment) as running:
        yield running


@pytest.fixture
def client(plugin: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=plugin.address, headers=plugin.headers, timeout=300) as client:
        yield client


def body_of(plugin: Server, route: str, *, tokens: int = 8, **fields: JsonValue) -> dict[str, JsonValue]:
    """Return a body for a route that asks for two paths of `tokens` tokens."""
    chat: dict[str, JsonValue] = {
        "model": plugin.model,
        "messages": [{"role": "user", "content": "Go on."}],
        "max_tokens": tokens,
    }
    return chat | ({"branchwise": KEY} if route == CHAT else KEY) | fields


def metrics(client: httpx.Client) -> dict[str, float]:
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith("branchwise_")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def load(client: httpx.Client) -> int:
    found: int = client.get("/load").json()["server_load"]
    return found


@pytest.mark.parametrize("route", [CHAT, NATIVE])
def test_questions_beyond_the_queue_are_rejected(plugin: Server, client: httpx.Client, route: str) -> None:
    """Four clients ask without a pause; two questions run and one waits."""
    body, replies, stop = body_of(plugin, route, tokens=400), list[httpx.Response](), threading.Event()
    seen: dict[str, float] = {}

    def ask() -> None:
        while not stop.is_set():
            replies.append(client.post(route, json=body))

    def full() -> bool:
        for name, value in metrics(client).items():
            seen[name] = max(value, seen.get(name, 0))
        return seen["branchwise_questions_queued"] == 1 and any(reply.status_code == 429 for reply in list(replies))

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        try:
            wait_until(full, 120)
            plain = client.post(CHAT, json=body_of(plugin, NATIVE))  # without the key: vLLM's own
        finally:
            stop.set()
        for each in asking:
            each.result()
    assert plain.status_code == 200
    assert (seen["branchwise_questions_running"], seen["branchwise_questions_queued"]) == (2, 1)
    assert 2 <= seen["branchwise_branches_running"] <= 4
    rejected = [reply for reply in replies if reply.status_code != 200]
    for reply in rejected:
        assert (reply.status_code, reply.json()["error"]["code"]) == (429, "busy")
        assert 1 <= int(reply.headers["retry-after"]) <= 60
    assert len(rejected) < len(replies)
    wait_until(lambda: metrics(client)["branchwise_questions_running"] == 0, 10)
    assert metrics(client)["branchwise_branches_running"] == metrics(client)["branchwise_questions_queued"] == 0


@pytest.mark.parametrize("route", [CHAT, NATIVE])
def test_limits_of_the_operator_hold_on_every_route(plugin: Server, client: httpx.Client, route: str) -> None:
    more = {"paths": 5, "strategy": "self-consistency"}
    changed: dict[str, JsonValue] = {"branchwise": more} if route == CHAT else more
    reply = client.post(route, json=body_of(plugin, route, **changed))
    assert reply.status_code == 400
    assert "use 1 to 4" in reply.json()["error"]["message"]
    long = client.post(route, json=body_of(plugin, route, user="x" * BODY_BYTES))
    assert (long.status_code, long.json()["error"]["code"]) == (413, "too_large")
    assert client.post(CHAT, json=body_of(plugin, NATIVE, user="x" * BODY_BYTES)).status_code == 200


@pytest.mark.parametrize("route", [CHAT, NATIVE])
def test_routes_need_a_key_and_pass_the_middleware(plugin: Server, client: httpx.Client, route: str) -> None:
    body = body_of(plugin, route)
    refused = httpx.post(f"{plugin.address}{route}", json=body)
    assert refused.status_code == 401
    reply = client.post(route, json=body, headers={"x-request-id": "of-this-test"})
    assert reply.status_code == 200
    assert (reply.headers["x-marked"], reply.headers["x-request-id"]) == ("yes", "of-this-test")


@pytest.mark.parametrize("route", [CHAT, NATIVE])
def test_the_dependencies_of_the_core_route_hold(plugin: Server, client: httpx.Client, route: str) -> None:
    """vLLM's own route refuses other types of content than JSON."""
    content = json.dumps(body_of(plugin, route)).encode()
    own = client.post(CHAT, content=json.dumps(body_of(plugin, NATIVE)), headers={"content-type": "text/plain"})
    reply = client.post(route, content=content, headers={"content-type": "text/plain"})
    assert reply.status_code == own.status_code == 400


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("route", [CHAT, NATIVE])
def test_load_is_tracked_until_the_reply_ends(plugin: Server, client: httpx.Client, route: str, stream: bool) -> None:
    wait_until(lambda: load(client) == 0, 10)
    body = body_of(plugin, route, tokens=400, stream=stream)
    replies, stop = list[httpx.Response](), threading.Event()

    def ask() -> None:
        while not stop.is_set():
            replies.append(client.post(route, json=body))

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            wait_until(lambda: load(client) == 1, 60)
        finally:
            stop.set()
        asking.result()
    assert {reply.status_code for reply in replies} == {200}
    wait_until(lambda: load(client) == 0, 10)
    assert client.post(route, json=body | {"temperature": -1}).status_code == 400
    wait_until(lambda: load(client) == 0, 10)  # it is counted down after the reply


@pytest.mark.parametrize("route", [CHAT, NATIVE])
def test_a_client_that_leaves_frees_everything(plugin: Server, client: httpx.Client, route: str) -> None:
    body = body_of(plugin, route, tokens=400, stream=True)
    before = metrics(client)
    with httpx.stream("POST", f"{plugin.address}{route}", json=body, headers=plugin.headers, timeout=60) as reply:
        assert next(reply.iter_lines()).startswith("data: ")
    wait_until(lambda: plugin.busy() == 0, 10)
    wait_until(lambda: metrics(client)["branchwise_questions_running"] == 0, 10)
    wait_until(lambda: load(client) == 0, 10)
    name = 'branchwise_questions_total{outcome="cancelled",strategy="self-consistency"}'
    assert metrics(client)[name] == before.get(name, 0) + 1


def test_metrics_count_strategies_and_leave_plain_requests_to_vllm(plugin: Server, client: httpx.Client) -> None:
    before = metrics(client)
    for _ in range(3):
        assert client.post(CHAT, json=body_of(plugin, NATIVE)).status_code == 200
    untouched = {name: value for name, value in metrics(client).items() if "cpu" not in name}
    assert untouched == {name: value for name, value in before.items() if "cpu" not in name}
    assert client.post(CHAT, json=body_of(plugin, CHAT)).status_code == 200
    after = metrics(client)
    assert sum_of(after, "branchwise_questions_total") == sum_of(before, "branchwise_questions_total") + 1
    name = 'branchwise_tokens_total{kind="sampled",strategy="self-consistency"}'
    assert after[name] == before.get(name, 0) + 16
    name = f'branchwise_requests_total{{route="{CHAT}",status="200"}}'
    assert after[name] == before.get(name, 0) + 1
    assert after["branchwise_serving_cpu_seconds_total"] > 0


def sum_of(values: dict[str, float], name: str) -> float:
    return sum(value for label, value in values.items() if label.startswith(name))


def test_questions_and_requests_are_logged_without_their_texts(plugin: Server, client: httpx.Client, log: Path) -> None:
    body = body_of(plugin, CHAT, messages=[{"role": "user", "content": "a very private question"}])
    assert client.post(CHAT, json=body).status_code == 200
    wait_until(lambda: '"event": "request"' in log.read_text(), 10)
    lines = [line for line in log.read_text().splitlines() if line.startswith('{"time"')]
    events = {json.loads(line)["event"] for line in lines}
    assert "request" in events
    assert len(events) > 1
    assert not any("private" in line for line in lines)


def test_malformed_bodies_get_short_client_errors(plugin: Server, client: httpx.Client) -> None:
    for number, body in enumerate(malformed_bodies(600, plugin.model, seed=25)):
        route = CHAT if number % 2 and asks_for_a_strategy(body) else NATIVE
        reply = client.post(route, content=body, headers={"content-type": "application/json"})
        assert reply.status_code < 500, body[:500]
        if reply.status_code != 200:
            assert len(reply.content) <= 1024, reply.text


def asks_for_a_strategy(body: bytes) -> bool:
    try:
        value = json.loads(body)
    except ValueError:
        return False
    return isinstance(value, dict) and value.get("branchwise") is not None


def test_health_answers_while_questions_run(plugin: Server, client: httpx.Client) -> None:
    seconds: list[float] = []
    stop = threading.Event()

    def probe(health: Callable[[str], httpx.Response] = httpx.get) -> None:
        while not stop.is_set():
            start = time.monotonic()
            assert health(f"{plugin.address}/health").status_code == 200
            seconds.append(time.monotonic() - start)

    with ThreadPoolExecutor(4) as pool:
        probing = pool.submit(probe)
        asked = [pool.submit(client.post, NATIVE, json=body_of(plugin, NATIVE, tokens=200)) for _ in range(3)]
        assert all(reply.result().status_code == 200 for reply in asked)
        stop.set()
        probing.result()
    assert seconds
