"""Print the requirements of the server image, pinned and with hashes.

    python tools/lock_server.py > constraints-server.txt

pip resolves the newest versions that pyproject.toml permits, for the Python version and platform that run this script:
use those of the image. Review the difference before a commit.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from pydantic import BaseModel

_ROOT = Path(__file__).parents[1]
_HEADER = """\
# The packages of `branchwise[server]` for an image: CPython {python} on {platform}.
# Renew with `python tools/lock_server.py > constraints-server.txt`; install with
#   pip install --require-hashes --no-deps -r constraints-server.txt && pip install --no-deps .
"""


class _Metadata(BaseModel):
    name: str
    version: str


class _Archive(BaseModel):
    hashes: dict[str, str] = {}


class _Download(BaseModel):
    archive_info: _Archive | None = None
    """None for the folder of branchwise itself."""


class _Package(BaseModel):
    metadata: _Metadata
    download_info: _Download


class _Report(BaseModel):
    install: list[_Package]


def pin(report: str) -> str:
    """Return the lines of the file for an installation report of pip, sorted by name."""
    lines = []
    for package in _Report.model_validate_json(report).install:
        if (archive := package.download_info.archive_info) is not None:
            name, version = package.metadata.name.lower(), package.metadata.version
            lines.append(f"{name}=={version} --hash=sha256:{archive.hashes['sha256']}\n")
    return "".join(sorted(lines))


def main() -> int:
    """Resolve and print; return the exit status."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        options = ("--quiet", "--dry-run", "--ignore-installed", "--only-binary=:all:", "--report", str(report))
        command = [sys.executable, "-m", "pip", "install", *options, f"{_ROOT}[server]"]
        if status := subprocess.run(command, check=False, stdout=sys.stderr).returncode:
            return status
        text = report.read_text(encoding="utf-8")
    environment = json.loads(text)["environment"]
    python, platform = environment["python_version"], f"{environment['sys_platform']} {environment['platform_machine']}"
    print(_HEADER.format(python=python, platform=platform) + pin(text), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
