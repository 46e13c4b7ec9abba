"""The plugin section of docs/vllm.md works as written."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.vllm.servers import API_KEY, VLLM, Server

PAGE = (Path(__file__).parents[2] / "docs" / "vllm.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## As a plugin of vllm serve")[2].partition("\n## ")[0]


@pytest.mark.parametrize("server", [VLLM], indirect=True)
def test_the_request_is_answered_by_a_strategy(server: Server) -> None:
    """The server runs with the plugin, as there, but on another model and port and with a key."""
    (model,) = re.findall(r"^VLLM_PLUGINS=branchwise vllm serve (\S+)$", SECTION, re.MULTILINE)
    (request,) = re.findall(r"^curl .*?^}'$", SECTION, re.MULTILINE | re.DOTALL)
    request = request.replace("http://localhost:8000", server.address).replace(model, server.model)
    request = request.replace("curl ", f"curl --silent -H 'Authorization: Bearer {API_KEY}' ", 1)
    done = subprocess.run(["bash", "-c", request], capture_output=True, text=True, timeout=600, check=True)
    reply = json.loads(done.stdout)
    assert reply["model"] == server.model
    assert reply["branchwise"]["strategy"] == "path-consistency"
    assert reply["branchwise"]["usage"]["sampled"] > 0
