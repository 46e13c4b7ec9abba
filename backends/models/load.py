"""Load a model into the embedded engine by name."""

from typing import TYPE_CHECKING

from branchwise.backends.base import Backend
from branchwise.backends.models.names import DEFAULT_MODEL, short_name
from branchwise.backends.models.progress import OnProgress, no_progress
from branchwise.backends.models.resolve import check, resolve
from branchwise.core.errors import ConfigError, MissingExtraError, ModelError

if TYPE_CHECKING:
    from branchwise.backends.engine.settings import EngineSettings


def load(
    model: str = DEFAULT_MODEL,
    *,
    settings: "EngineSettings | None" = None,
    progress: OnProgress = no_progress,
) -> Backend:
    """Return the embedded engine with a model: a local folder or GGUF file, a cached model's name, or a hub id.

    Fetches and converts the model if need be. Raises ModelError if the model cannot be fetched or run,
    MissingExtraError without the extra `engine`.
    """
    draft = None if settings is None else settings.draft_model
    check_names(model, draft)  # before the import of torch, which takes seconds
    try:
        from branchwise.backends.engine.engine import Engine
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", "engine") from error
    return Engine.load(
        resolve(model, progress),
        name=short_name(model) or model,
        settings=settings,
        draft_folder=None if draft is None else resolve(draft, progress),
    )


def engine_settings(
    *,
    device: str | None,
    dtype: str | None,
    speculation: str,
    draft_model: str | None,
    deterministic: bool | None = None,
) -> "EngineSettings":
    """Return the engine's settings from command-line options, checked before anything is fetched.

    Raises ConfigError for invalid options, MissingExtraError without the extra `engine`.
    """
    try:
        from branchwise.backends.engine.settings import EngineSettings
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", "engine") from error
    settings = EngineSettings(
        dtype=dtype, device=device, speculation=speculation, draft_model=draft_model, deterministic=deterministic
    )
    settings.torch_device()  # raises for an unknown device
    return settings


def check_names(model: str, draft_model: str | None) -> None:
    """Check both names without a network request. Raises ModelError, or ConfigError for the draft model."""
    check(model)
    try:
        if draft_model is not None:
            check(draft_model)
    except ModelError as error:
        raise ConfigError("draft_model", error.problem.removeprefix("model: "), error.fix) from error
