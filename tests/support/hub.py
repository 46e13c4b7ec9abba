"""A model hub on this machine that serves one repository."""

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.files import FileHandler

COMMIT = "0" * 40


class HubHandler(FileHandler):
    """Handler that answers as the hub does for the repository x/y in its folder."""

    def do_GET(self) -> None:  # noqa: N802  # the base class defines the name
        path = urlsplit(self.path).path
        if not path.startswith("/api/"):
            super().do_GET()
            return
        sizes = {file.name: file.stat().st_size for file in Path(self.directory).iterdir()}
        if "/tree/" in path:
            answer: object = [{"type": "file", "path": n, "size": s, "oid": "0" * 40} for n, s in sizes.items()]
        else:
            answer = {"id": "x/y", "sha": COMMIT, "siblings": [{"rfilename": name} for name in sizes]}
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def translate_path(self, path: str) -> str:
        return str(Path(self.directory) / Path(urlsplit(path).path).name)

    def end_headers(self) -> None:
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{Path(urlsplit(self.path).path).name}"')
        super().end_headers()


def hide_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make the hub refuse connections, and `folder` its cache."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
