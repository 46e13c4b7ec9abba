"""Models in wheels, as package indexes carry them: made-up ones, in a folder or on a server of this machine."""

import base64
import hashlib
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from branchwise.backends.models.catalog import CatalogEntry, Part

PIECES = (b"GGUF" + b"a" * 1000, b"b" * 2000, b"c" * 10)


def quiet(done: int, total: int, what: str) -> None:
    """No progress."""


def files(folder: Path) -> list[str]:
    """Every file under a folder."""
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def entry(pieces: tuple[bytes, ...] = PIECES, sha256: str | None = None) -> CatalogEntry:
    """A model called Test, cut into wheels."""
    whole = b"".join(pieces)
    parts = tuple(Part(f"bw-test-part{i}", "1.0", f"bw_test_part{i}/data.bin") for i in range(len(pieces)))
    return CatalogEntry("Test", "x/test", "Q4", parts, len(whole), sha256 or hashlib.sha256(whole).hexdigest(), "MIT")


def wheel_name(part: Part) -> str:
    return f"{part.package.replace('-', '_')}-{part.version}-py3-none-any.whl"


def write_wheel(folder: Path, part: Part, data: bytes) -> None:
    """A wheel pip accepts, holding one data file."""
    info = f"{part.package.replace('-', '_')}-{part.version}.dist-info"
    held = {
        part.member: data,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {part.package}\nVersion: {part.version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, content in held.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(content)}\n"
    held[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    with zipfile.ZipFile(folder / wheel_name(part), "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in held.items():
            archive.writestr(path, content)


def write_index(folder: Path, known: CatalogEntry, pieces: tuple[bytes, ...]) -> None:
    """An index of wheels as a server shows it."""
    for part, piece in zip(known.parts, pieces, strict=True):
        page = folder / "simple" / part.package
        page.mkdir(parents=True)
        write_wheel(page, part, piece)
        digest = hashlib.sha256((page / wheel_name(part)).read_bytes()).hexdigest()
        (page / "index.html").write_text(f'<a href="{wheel_name(part)}#sha256={digest}">{wheel_name(part)}</a>')


class Files(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serve(folder: Path, handler: type[SimpleHTTPRequestHandler] = Files) -> Iterator[str]:
    """Serve a folder; the server's address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def only_index(address: str) -> dict[str, str]:
    """What makes pip ask one index, once."""
    return {
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_INDEX_URL": f"{address}/simple",
        "PIP_FIND_LINKS": "",
        "PIP_RETRIES": "0",
    }


def without_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The hub refuses connections, and its cache, `folder`, is empty."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
