"""The dependencies: floors above known vulnerabilities, and the locked packages of the server image."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tools.lock_server import pin

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {name: [Requirement(one) for one in listed] for name, listed in PROJECT["optional-dependencies"].items()}
CORE = [Requirement(one) for one in PROJECT["dependencies"]]

VULNERABLE = [
    ("core", "h11", "0.14.0"),  # CVE-2025-43859
    ("core", "certifi", "2024.6.2"),  # CVE-2024-39689
    ("core", "filelock", "3.20.2"),  # CVE-2025-68146, CVE-2026-22701
    ("core", "idna", "3.6"),  # CVE-2024-3651
    ("engine", "tqdm", "4.66.2"),  # CVE-2024-34062
    ("server", "starlette", "0.49.0"),  # CVE-2025-54121, CVE-2025-62727
    ("agents", "python-multipart", "0.0.21"),  # CVE-2024-53981, CVE-2026-24486
    ("telemetry", "protobuf", "6.33.4"),  # CVE-2025-4565, CVE-2026-0994
    ("telemetry", "requests", "2.32.3"),  # CVE-2024-47081
    ("telemetry", "urllib3", "2.6.2"),  # CVE-2025-66418, CVE-2025-66471, CVE-2026-21441
    ("plot", "jinja2", "3.1.5"),  # CVE-2025-27516
    ("plot", "fonttools", "4.60.1"),  # CVE-2025-66034
    ("plot", "pillow", "12.1.0"),  # CVE-2025-48379, CVE-2026-25990
    ("metrics", "nltk", "3.9.2"),  # CVE-2025-14009
    ("data", "aiohttp", "3.13.2"),  # CVE-2025-69223 and others
    ("data", "requests", "2.32.3"),
    ("data", "urllib3", "2.6.2"),
]


@pytest.mark.parametrize(("extra", "package", "version"), VULNERABLE)
def test_known_vulnerable_versions_are_excluded(extra: str, package: str, version: str) -> None:
    listed = [one for one in (CORE if extra == "core" else EXTRAS[extra]) if one.name == package]
    assert len(listed) == 1
    assert not listed[0].specifier.contains(version)


def test_every_extra_of_dev_has_floors() -> None:
    """A requirement without a floor permits any old version."""
    for one in [*CORE, *(one for listed in EXTRAS.values() for one in listed)]:
        assert one.name == "branchwise" or any(spec.operator == ">=" for spec in one.specifier), one


def locked() -> dict[str, str]:
    """Return the version of each package in the server's file; each line has a hash."""
    lines = [line for line in (ROOT / "constraints-server.txt").read_text().splitlines() if not line.startswith("#")]
    found = [re.fullmatch(r"([\w.-]+)==(\S+) --hash=sha256:[0-9a-f]{64}", line) for line in lines]
    return {canonicalize_name(match[1]): match[2] for match in found if match is not None} if all(found) else {}


def test_the_locked_packages_meet_every_requirement_of_the_server() -> None:
    versions = locked()
    for one in [*CORE, *EXTRAS["server"]]:
        assert one.specifier.contains(versions[canonicalize_name(one.name)]), one
    for _, package, version in VULNERABLE:
        assert package not in versions or Version(versions[package]) > Version(version)


def test_a_report_of_pip_becomes_pinned_lines() -> None:
    packages = [
        {
            "metadata": {"name": name, "version": "1.2"},
            "download_info": {"url": "u", "archive_info": {"hashes": {"sha256": digest}}},
        }
        for name, digest in (("Zed", "b" * 64), ("alpha", "a" * 64))
    ]
    own = {"metadata": {"name": "branchwise", "version": "0"}, "download_info": {"url": "file:", "dir_info": {}}}
    assert pin(json.dumps({"version": "1", "install": [*packages, own]})) == (
        f"alpha==1.2 --hash=sha256:{'a' * 64}\nzed==1.2 --hash=sha256:{'b' * 64}\n"
    )
