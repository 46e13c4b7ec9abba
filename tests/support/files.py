"""Serve a folder over HTTP on this machine, and list the files of a folder."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, AnyStr, ClassVar

if TYPE_CHECKING:
    from _typeshed import SupportsRead, SupportsWrite


def list_files(folder: Path) -> list[str]:
    """Return every file under a folder, except locks."""
    found = (file for file in folder.rglob("*") if file.is_file() and file.suffix != ".lock")
    return sorted(str(file.relative_to(folder)) for file in found)


class FileHandler(SimpleHTTPRequestHandler):
    """Handler that serves files and logs nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


class StallingHandler(FileHandler):
    """Handler that sends the beginning of large files, and never the rest."""

    sent: ClassVar[threading.Event] = threading.Event()
    """Set when the first beginning was sent."""
    end: ClassVar[threading.Event] = threading.Event()
    """Set by the test to end the stalled responses."""

    def copyfile(self, source: "SupportsRead[AnyStr]", outputfile: "SupportsWrite[AnyStr]") -> None:
        data = source.read()
        if len(data) < 20_000:
            outputfile.write(data)
            return
        outputfile.write(data[:10_000])
        self.sent.set()
        self.end.wait(60)


@contextmanager
def serve(folder: Path, handler: type[SimpleHTTPRequestHandler] = FileHandler) -> Iterator[str]:
    """Serve a folder while the context is open; yield the server's address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
