"""Fetch models from the model hub, through the hub's own client and cache."""

import contextlib
import threading
import time
from collections.abc import Container, Iterable
from concurrent.futures import Future, wait
from fnmatch import fnmatch
from pathlib import Path

from branchwise.backends.models.cache import CachedModel, is_disk_error, is_model, unwritable
from branchwise.backends.models.progress import OnProgress
from branchwise.core.errors import MissingExtraError, ModelError

_TIMEOUT_SECONDS = 10.0
_REPORT_SECONDS = 0.25
# An interrupted download is cleaned up until no new file has appeared for six scans, two seconds at most.
_SCAN_SECONDS, _QUIET_SCANS, _MAX_SCANS = 0.05, 6, 40
_FILES = ("*.json", "*.jinja", "*.model", "*.txt")
# Only the first kind that a repository has is fetched: many hold the same weights in both.
_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")


def hub_folder(repository: str, progress: OnProgress) -> Path | None:
    """Return the folder of a hub snapshot, downloaded if need be, or None if the hub cannot be reached.

    Raises ModelError if the hub refuses the repository or the repository holds no usable weights.
    """
    try:
        from huggingface_hub import constants, snapshot_download
        from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError
    except ImportError as error:
        raise MissingExtraError(error.name or "huggingface_hub", "engine") from error
    with contextlib.suppress(LocalEntryNotFoundError, OSError, ValueError, KeyError):
        folder = Path(snapshot_download(repository, local_files_only=True))
        if is_model(folder):
            return folder
    progress(0, 0, f"asking the model hub for {repository}")
    try:
        return _fetch(repository, progress)
    except ModelError:
        raise
    except (RepositoryNotFoundError, GatedRepoError) as error:
        raise ModelError(
            f"model: the hub has no {repository!r}, or it is private", "check the name, or log in to the hub"
        ) from error
    except Exception as error:  # the hub's client has changed its HTTP library more than once
        if is_disk_error(error):
            raise unwritable(Path(constants.HF_HUB_CACHE), str(error), "HF_HOME") from error
        progress(0, 0, f"the model hub cannot be reached ({type(error).__name__})")
        return None


def hub_models() -> list[CachedModel]:
    """Return the complete models in the hub's cache, by id; empty if the hub's client is not installed."""
    try:
        from huggingface_hub import scan_cache_dir
        from huggingface_hub.errors import CacheNotFound
    except ImportError:
        return []
    try:
        repositories = sorted(scan_cache_dir().repos, key=lambda one: one.repo_id)
    except (CacheNotFound, OSError, ValueError):  # no cache, or not a folder
        return []
    return [
        CachedModel(repository.repo_id, revision.snapshot_path, revision.size_on_disk)
        for repository in repositories
        for revision in repository.revisions
        if repository.repo_type == "model" and "main" in revision.refs and is_model(revision.snapshot_path)
    ]


def _fetch(repository: str, progress: OnProgress) -> Path:
    """Download the configuration, the tokenizer and one kind of weights of a repository; return the snapshot."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(repository, timeout=_TIMEOUT_SECONDS, files_metadata=True)
    siblings = info.siblings or ()
    patterns = [*_FILES, _weights_pattern(repository, [file.rfilename for file in siblings])]
    size = sum(file.size or 0 for file in siblings if any(fnmatch(file.rfilename, pattern) for pattern in patterns))
    return _download(repository, patterns, size, progress)


def _download(repository: str, patterns: list[str], size: int, progress: OnProgress) -> Path:
    """Fetch a snapshot of `size` bytes and return its folder.

    It runs in a thread of its own, because the client finishes its files before it lets an interrupt through.
    Complete files are kept after an interrupt.
    """
    from huggingface_hub import constants, snapshot_download

    done: Future[str] = Future()

    def work() -> None:
        try:
            done.set_result(snapshot_download(repository, allow_patterns=patterns))
        except BaseException as error:  # raised again in the calling thread
            done.set_exception(error)

    blobs = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "blobs"
    before, fetched = set(blobs.glob("*.incomplete")), 0
    threading.Thread(target=work, name="branchwise-hub", daemon=True).start()
    try:
        while not done.done():
            with contextlib.suppress(OSError):  # the folder is yet to be made, or a file was just renamed
                fetched = sum(file.stat().st_size for file in blobs.iterdir())
            progress(min(fetched, size), size, f"downloading {repository} from the model hub")
            wait([done], timeout=_REPORT_SECONDS)
    except KeyboardInterrupt:
        _delete_incomplete(blobs, before)
        raise
    return Path(done.result())


def _delete_incomplete(blobs: Path, before: Container[Path]) -> None:
    """Delete partial files that were not there before. The client's threads may still create some meanwhile.

    The client gives every attempt a new file name, so it never resumes from these files.
    """
    quiet = 0
    for _ in range(_MAX_SCANS):
        new = [file for file in blobs.glob("*.incomplete") if file not in before]
        for file in new:
            file.unlink(missing_ok=True)
        quiet = 0 if new else quiet + 1
        if quiet == _QUIET_SCANS:
            return
        time.sleep(_SCAN_SECONDS)


def _weights_pattern(repository: str, files: Iterable[str]) -> str:
    """Return the pattern of the weight files to fetch. Raises ModelError if the repository has none."""
    for pattern in _WEIGHTS:
        if any(fnmatch(file, pattern) for file in files):
            return pattern
    raise ModelError(
        f"model: the hub's {repository!r} holds no weights transformers can load",
        "use a repository with safetensors or PyTorch weights, or a GGUF file of it on your disk",
    )
