"""Models of the model hub, through the hub's own client and cache."""

import contextlib
import threading
import time
from collections.abc import Container, Iterable
from concurrent.futures import Future, wait
from fnmatch import fnmatch
from pathlib import Path

from branchwise.backends.models.cache import is_disk_error, is_model, unwritable
from branchwise.backends.models.packages import OnProgress
from branchwise.core.errors import MissingExtraError, ModelError

_SECONDS = 10.0
_REPORT_SECONDS = 0.25
# How long an interrupted download is cleaned up after: until no new file shows for a while, at most two seconds.
_SCAN_SECONDS, _QUIET_SCANS, _SCANS = 0.05, 6, 40
_FILES = ("*.json", "*.jinja", "*.model", "*.txt")
# The first kind a repository has is all that is fetched: many hold the same weights twice.
_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")


def from_hub(repository: str, progress: OnProgress) -> Path | None:
    """The folder of a hub snapshot; None when the hub can't be reached. Raises ModelError when it says no."""
    try:
        from huggingface_hub import HfApi, constants, snapshot_download
        from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError
    except ImportError as error:
        raise MissingExtraError(error.name or "huggingface_hub", "engine") from error
    with contextlib.suppress(LocalEntryNotFoundError, OSError, ValueError, KeyError):
        folder = Path(snapshot_download(repository, local_files_only=True))
        if is_model(folder):
            return folder
    progress(0, 0, f"asking the model hub for {repository}")
    try:
        siblings = HfApi().model_info(repository, timeout=_SECONDS, files_metadata=True).siblings or ()
        wanted = [*_FILES, _weights(repository, [file.rfilename for file in siblings])]
        size = sum(file.size or 0 for file in siblings if any(fnmatch(file.rfilename, pattern) for pattern in wanted))
        return _download(repository, wanted, size, progress)
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


def _download(repository: str, patterns: list[str], size: int, progress: OnProgress) -> Path:
    """Fetch a snapshot of `size` bytes. In a thread of its own: the client waits for its files before it lets an
    interrupt through. Files that are whole are kept then."""
    from huggingface_hub import constants, snapshot_download

    done: Future[str] = Future()

    def work() -> None:
        try:
            done.set_result(snapshot_download(repository, allow_patterns=patterns))
        except BaseException as error:  # handed to the calling thread
            done.set_exception(error)

    blobs = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "blobs"
    before, held = set(blobs.glob("*.incomplete")), 0
    threading.Thread(target=work, name="branchwise-hub", daemon=True).start()
    try:
        while not done.done():
            with contextlib.suppress(OSError):  # there is none yet, or it has just got its last name
                held = sum(file.stat().st_size for file in blobs.iterdir())
            progress(min(held, size), size, f"downloading {repository} from the model hub")
            wait([done], timeout=_REPORT_SECONDS)
    except KeyboardInterrupt:
        _drop_incomplete(blobs, before)
        raise
    return Path(done.result())


def _drop_incomplete(blobs: Path, before: Container[Path]) -> None:
    """Delete the files that are half fetched, but those from before; threads of the client still begin some."""
    quiet = 0
    for _ in range(_SCANS):
        new = [file for file in blobs.glob("*.incomplete") if file not in before]
        for file in new:
            file.unlink(missing_ok=True)
        quiet = 0 if new else quiet + 1
        if quiet == _QUIET_SCANS:
            return
        time.sleep(_SCAN_SECONDS)


def _weights(repository: str, files: Iterable[str]) -> str:
    """The pattern of the weight files to fetch."""
    for pattern in _WEIGHTS:
        if any(fnmatch(file, pattern) for file in files):
            return pattern
    raise ModelError(
        f"model: the hub's {repository!r} holds no weights transformers can load",
        "use a repository with safetensors or PyTorch weights, or a GGUF file of it on your disk",
    )
