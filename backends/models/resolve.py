"""From a model's name to a folder: local, cached, from the model hub, or from a package index."""

import contextlib
import difflib
import hashlib
import json
import re
import shutil
from pathlib import Path

from branchwise.backends.models.cache import cache_folder, is_model, model_folder
from branchwise.backends.models.catalog import CATALOG, CatalogEntry, find
from branchwise.backends.models.packages import Progress, fetch_gguf
from branchwise.errors import MissingExtraError, ModelError

_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
_HUB_SECONDS = 10.0
_HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")


def resolve(name: str, progress: Progress) -> Path:
    """The folder of the model called `name`, fetched and converted if need be.

    In this order: a local folder or GGUF file, a model converted before, the model hub, the package
    that carries it. Raises ModelError when none has it.
    """
    local = Path(name).expanduser()
    if local.is_dir():
        return _local_folder(local, progress)
    if local.suffix == ".gguf" and local.is_file():
        return _converted(local, progress)
    entry = find(name)
    kept = model_folder(entry.name if entry else name.replace("/", "--"))
    if is_model(kept):
        return kept
    if entry is None and not _HUB_ID.fullmatch(name):
        raise _unknown(name)
    folder = _from_hub(entry.hub_id if entry else name, progress)
    if folder is not None:
        return folder
    if entry is None:
        raise ModelError(
            f"model: {name!r} is not cached and the model hub cannot be reached",
            f"connect, give a local folder, or use one of {_names()}, which package indexes carry",
        )
    return _from_packages(entry, kept, progress)


def _local_folder(folder: Path, progress: Progress) -> Path:
    if is_model(folder) or ((folder / "config.json").is_file() and any(folder.glob("*.bin"))):
        return folder
    gguf = sorted(folder.glob("*.gguf"))
    if len(gguf) == 1:
        return _converted(gguf[0], progress)
    raise ModelError(
        f"model: the folder {folder} holds no weights",
        "give one with config.json and *.safetensors, or with one *.gguf file",
    )


def _converted(gguf: Path, progress: Progress) -> Path:
    """The converted folder of a user's own GGUF file, redone when the file has changed."""
    stat = gguf.stat()
    state = f"{gguf.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}"
    folder = model_folder(f"{gguf.stem}-{hashlib.sha256(state.encode()).hexdigest()[:16]}")
    if not is_model(folder):
        progress(0, 0, f"converting {gguf.name} to safetensors, once")
        _convert(gguf, folder)
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    try:
        from branchwise.backends.models.convert import convert_gguf
    except ImportError as error:
        raise MissingExtraError(error.name or "transformers", "engine") from error
    convert_gguf(gguf, folder)


def _from_hub(repository: str, progress: Progress) -> Path | None:
    """The folder of a hub snapshot; None when the hub can't be reached. Raises ModelError when it says no."""
    try:
        from huggingface_hub import HfApi, snapshot_download
        from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError
    except ImportError as error:
        raise MissingExtraError(error.name or "huggingface_hub", "engine") from error
    with contextlib.suppress(LocalEntryNotFoundError, OSError, ValueError):
        folder = Path(snapshot_download(repository, allow_patterns=list(_HUB_FILES), local_files_only=True))
        if _is_whole(folder):
            return folder
    progress(0, 0, f"asking the model hub for {repository}")
    try:
        HfApi().model_info(repository, timeout=_HUB_SECONDS)
        progress(0, 0, f"downloading {repository} from the model hub")
        return Path(snapshot_download(repository, allow_patterns=list(_HUB_FILES)))
    except (RepositoryNotFoundError, GatedRepoError) as error:
        raise ModelError(
            f"model: the hub has no {repository!r}, or it is private", "check the name, or log in to the hub"
        ) from error
    except Exception as error:  # the hub's client has changed its HTTP library more than once
        progress(0, 0, f"the model hub cannot be reached ({type(error).__name__})")
        return None


def _is_whole(snapshot: Path) -> bool:
    """Whether every weight of a snapshot is there: a download that was interrupted leaves some out."""
    index = snapshot / "model.safetensors.index.json"
    if index.is_file():
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return all((snapshot / file).is_file() for file in files)
    return is_model(snapshot)


def _from_packages(entry: CatalogEntry, folder: Path, progress: Progress) -> Path:
    progress(
        0,
        entry.size,
        f"taking {entry.name} ({entry.quantization}) from packages; its sha256 must be {entry.sha256}",
    )
    downloads = cache_folder() / "downloads" / entry.name
    gguf = fetch_gguf(entry, downloads, progress)
    progress(entry.size, entry.size, "sha256 verified; converting to safetensors, once")
    _convert(gguf, folder)
    shutil.rmtree(downloads, ignore_errors=True)
    return folder


def _unknown(name: str) -> ModelError:
    near = difflib.get_close_matches(name.lower(), [entry.name.lower() for entry in CATALOG], n=1, cutoff=0.4)
    guess = next((entry.name for entry in CATALOG if near and entry.name.lower() == near[0]), None)
    hint = f"did you mean {guess}?" if guess else f"use a local folder, a hub id such as owner/name, or {_names()}"
    return ModelError(f"model: {name!r} is unknown", hint)


def _names() -> str:
    return ", ".join(entry.name for entry in CATALOG)
