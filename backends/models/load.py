"""Load a model by name."""

from typing import TYPE_CHECKING

from branchwise.backends.base import Backend
from branchwise.backends.models.catalog import DEFAULT_MODEL, find
from branchwise.backends.models.packages import OnProgress
from branchwise.backends.models.resolve import check, resolve
from branchwise.core.errors import ConfigError, MissingExtraError, ModelError

if TYPE_CHECKING:
    from branchwise.backends.engine.settings import EngineSettings


def load(
    model: str = DEFAULT_MODEL,
    *,
    settings: "EngineSettings | None" = None,
    progress: OnProgress = lambda *_: None,
) -> Backend:
    """The embedded engine with a model: a local folder or GGUF file, a hub id, or a name from
    `branchwise models list`. Fetches and converts it if need be.

    Raises ModelError when the model can't be had or run, MissingExtraError without the extra `engine`.
    """
    draft = None if settings is None else settings.draft_model
    check_names(model, draft)  # importing torch takes seconds
    try:
        from branchwise.backends.engine.engine import Engine
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", "engine") from error
    entry = find(model)
    return Engine.load(
        resolve(model, progress),
        name=entry.name if entry else model,
        settings=settings,
        draft_folder=None if draft is None else resolve(draft, progress),
    )


def engine_settings(
    *, device: str | None, dtype: str | None, speculation: str, draft_model: str | None
) -> "EngineSettings":
    """Settings of the engine as people type them, before anything is fetched for them.

    Raises ConfigError, MissingExtraError without the extra `engine`.
    """
    try:
        from branchwise.backends.engine.settings import EngineSettings
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", "engine") from error
    settings = EngineSettings(dtype=dtype, device=device, speculation=speculation, draft_model=draft_model)
    settings.torch_device()  # a wrong one is no reason to fetch anything
    return settings


def check_names(model: str, draft_model: str | None) -> None:
    """Find out at once, asking nobody, whether there can be such models. Raises ModelError, for the draft model
    ConfigError."""
    check(model)
    try:
        if draft_model is not None:
            check(draft_model)
    except ModelError as error:
        raise ConfigError("draft_model", error.problem.removeprefix("model: "), error.fix) from error
