# ruff: noqa: E501 (programs in tables)
"""Limits hold over all processes and files of a program together."""

import sys

import pytest

from branchwise.sandbox.outcome import Kind
from tests.support.sandboxes import Run, Setup

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="programs run on Linux alone")

MEMORY, FILES = 256 << 20, 4 << 20
# Each process stays below the limit.
MEMORIES = {
    "copies": "data = bytes(3) * (10 << 20)\nfor _ in range(12):\n    if os.fork() == 0:\n        data += b'x'\n        time.sleep(60)",
    "separate memory": "for _ in range(5):\n    if os.fork() == 0:\n        data = b'x' * (90 << 20)\n        time.sleep(60)",
    "a chain": "for _ in range(5):\n    data = b'x' * (90 << 20)\n    if os.fork():\n        time.sleep(60)",
    "orphans": "for _ in range(5):\n    if os.fork() == 0:\n        if os.fork():\n            os._exit(0)\n"
    "        data = b'x' * (90 << 20)\n        time.sleep(60)",
    "anonymous shared memory": "import mmap\nfor _ in range(5):\n    if os.fork() == 0:\n        data = mmap.mmap(-1, 90 << 20)\n"
    "        data.write(b'x' * len(data))\n        time.sleep(60)",
}  # fmt: skip
DISKS = {
    "many files": "for number in range(100):\n    open(str(number), 'wb').write(bytes(100 << 10))",
    "nested folders": "for _ in range(100):\n    os.mkdir('x')\n    os.chdir('x')\n    open('y', 'wb').write(bytes(100 << 10))",
    "deep folders": "for _ in range(1500):\n    os.mkdir('deeper')\n    os.chdir('deeper')\n    open('x', 'wb').write(bytes(10 << 10))",
    "a folder that nobody may list": "os.mkdir('x', 0o300)\nfor number in range(100):\n    open(f'x/{number}', 'wb').write(bytes(100 << 10))",
    "deleted files": "held = []\nfor _ in range(50):\n    held.append(open('x', 'wb', buffering=0))\n"
    "    held[-1].write(bytes(100 << 10))\n    os.remove('x')",
    "empty files": "for number in range(9999):\n    open(str(number), 'w')",
    "empty folders": "for number in range(9999):\n    os.mkdir(str(number))",
    "several processes": "for child in range(10):\n    if os.fork() == 0:\n"
    "        for number in range(10):\n            open(f'{child} {number}', 'wb').write(bytes(100 << 10))\n        os._exit(0)\n"
    "    os.wait()\nopen('x', 'wb').write(bytes(100 << 10))",
}  # fmt: skip
SPARING = """
data = bytes(3) * (50 << 20)
open('mine', 'wb').write(bytes(2 << 20))
os.mkdir('mine too')
for _ in range(8):  # pages that all of them share count once
    if os.fork() == 0:
        time.sleep(0.3)
        os._exit(0)
time.sleep(0.3)
"""


@pytest.mark.parametrize("name", MEMORIES)
def test_memory_is_limited_over_all_processes(name: str, run: Run) -> None:
    outcome = run(f"import os, time\n{MEMORIES[name]}\ntime.sleep(60)", memory=MEMORY)
    assert (outcome.kind, outcome.detail) == (Kind.MEMORY, f"more than {MEMORY} bytes of memory"), outcome


@pytest.mark.parametrize("name", DISKS)
def test_disk_is_limited_over_all_files(name: str, run: Run, setup: Setup) -> None:
    outcome = run(f"import os, time\n{DISKS[name]}\ntime.sleep(60)", files=FILES)
    if outcome.kind is Kind.FAILED and setup.layers == "namespaces":
        assert "No space left" in outcome.detail
    else:
        assert (outcome.kind, outcome.detail) == (Kind.OUTPUT, f"more than {FILES} bytes of files"), outcome


def test_a_program_within_its_limits_passes(run: Run) -> None:
    outcome = run(f"import os, time\n{SPARING}", memory=MEMORY, files=FILES)
    assert outcome.passed, outcome
