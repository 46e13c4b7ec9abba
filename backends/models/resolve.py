"""Resolve a model's name to a folder: local, converted before, or a snapshot of the model hub."""

import difflib
import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from branchwise.backends.models.cache import converted_models, exclusive_lock, is_model, model_folder
from branchwise.backends.models.hub import hub_folder
from branchwise.backends.models.manifest import find_damage
from branchwise.backends.models.names import HUB_IDS, short_name
from branchwise.backends.models.progress import OnProgress
from branchwise.core.errors import MissingExtraError, ModelError

_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
_MIN_SIMILARITY = 0.6
"""Least similarity at which an unknown name counts as a misspelling of a known one."""


def check(name: str) -> None:
    """Raise ModelError at once, without a network request, if no model can have this name."""
    local = _local_model(name)
    known = local is not None or short_name(name) is not None or is_model(_cached_folder(name))
    if not known and not _HUB_ID.fullmatch(name):
        raise _unknown(name)


def resolve(name: str, progress: OnProgress) -> Path:
    """Return the folder of the model called `name`, fetched and converted if need be.

    Looks for a local folder or GGUF file, then a cached model, then the model hub. Raises ModelError if the
    model is in none of them.
    """
    check(name)
    local = _local_model(name)
    if local is not None:
        return local if local.is_dir() else _converted(local, progress)
    cached = _cached_folder(name)
    if is_model(cached):
        if damage := find_damage(cached):
            raise ModelError(f"model: {cached} is damaged ({damage})", "delete the folder and fetch the model again")
        return cached
    short = short_name(name)
    folder = hub_folder(HUB_IDS[short] if short else name, progress)
    if folder is None:
        raise ModelError(
            f"model: {name!r} is not cached and the model hub cannot be reached",
            "connect, or give a local folder, a GGUF file or a name from `branchwise models list`",
        )
    return folder


def _local_model(name: str) -> Path | None:
    """Return the model's folder or GGUF file if `name` is a path that exists, or None.

    Raises ModelError for a path that holds no model.
    """
    try:
        path = Path(name).expanduser()
        is_folder, is_file = path.is_dir() and bool(name), path.is_file()
    except (OSError, RuntimeError, ValueError):  # not a path: too long, or the home of an unknown user
        return None
    if is_file and path.suffix == ".gguf":
        return path
    if is_file:
        raise ModelError(
            f"model: {name} is a file", "give the folder with config.json and its weights, or a .gguf file"
        )
    if not is_folder:
        return None
    return path if is_model(path) else _only_gguf(path)


def _only_gguf(folder: Path) -> Path:
    """Return the one GGUF file of a folder. Raises ModelError for any other number of them."""
    found = sorted(folder.glob("*.gguf"))
    if len(found) == 1:
        return found[0]
    if found:
        raise ModelError(f"model: the folder {folder} holds several GGUF files", "name one of them")
    raise ModelError(
        f"model: the folder {folder} holds no weights",
        "give one with config.json and *.safetensors, or with one *.gguf file",
    )


def _cached_folder(name: str) -> Path:
    """Return the cache's folder for a model of this name, which need not exist."""
    return model_folder(short_name(name) or name.replace("/", "--"))


def _converted(gguf: Path, progress: OnProgress) -> Path:
    """Return the converted folder of a user's GGUF file, converting it if the file is new or has changed."""
    stat = gguf.stat()
    state = f"{gguf.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}"
    folder = model_folder(f"{gguf.stem}-{hashlib.sha256(state.encode()).hexdigest()[:16]}")
    if _is_intact(folder):
        return folder
    with exclusive_lock(
        folder.with_name(f"{folder.name}.lock"),
        lambda: progress(0, 0, f"waiting for another process that converts {folder.name}"),
    ):
        if not _is_intact(folder):
            progress(0, 0, f"converting {gguf.name} to safetensors, once")
            _converter()(gguf, folder)
    return folder


def _is_intact(folder: Path) -> bool:
    return is_model(folder) and find_damage(folder) is None


def _converter() -> Callable[[Path, Path], None]:
    """Import and return `convert_gguf`. Raises MissingExtraError without the extra `engine`."""
    try:
        from branchwise.backends.models.convert import convert_gguf
    except ImportError as error:
        raise MissingExtraError(error.name or "transformers", "engine") from error
    return convert_gguf


def _unknown(name: str) -> ModelError:
    names = list(dict.fromkeys([*HUB_IDS, *(model.name for model in converted_models())]))
    nearest = _nearest(name, names)
    if nearest is not None:
        fix = f"did you mean {nearest}?"
    else:
        fix = f"use a local folder, a hub id such as owner/name, or {', '.join(names)}"
    return ModelError(f"model: {name!r} is unknown", fix)


def _nearest(name: str, names: list[str]) -> str | None:
    """Return the name that was probably meant, or None. The beginning of a name counts as similar to it."""
    wanted = name.lower()
    if not wanted:
        return None

    def similarity(known: str) -> float:
        beginnings = (known.lower(), known.lower()[: len(wanted)])
        return max(difflib.SequenceMatcher(None, wanted, beginning).ratio() for beginning in beginnings)

    best = max(names, key=similarity)
    return best if similarity(best) >= _MIN_SIMILARITY else None
