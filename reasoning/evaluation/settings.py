"""The settings of a run, kept as run.json in its folder. A run is resumed only with equal settings."""

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from pydantic_core import to_jsonable_python

from branchwise.backends.base import Capabilities
from branchwise.core.errors import ConfigError
from branchwise.evaluation.prompting import Prompting
from branchwise.strategies.strategy import AnyStrategy

_FIXED = (
    "model",
    "seed",
    "dtype",
    "capabilities",
    "verifier",
    "budget_tokens",
    "task",
    "thinking",
    "thinking_budget",
)  # equal in every part of a run


class RunSettings(BaseModel):
    """Everything that the answers of a run depend on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    seed: int
    dtype: str | None
    """None: the default of the device."""
    capabilities: Capabilities
    """Capabilities of the backend, so that the recorded paths can replace it."""
    strategies: dict[str, dict[str, JsonValue]]
    """Fields of each strategy, by its name."""
    verifier: str | None = None
    budget_tokens: int | None = None
    """Maximum number of sampled tokens per question."""
    task: str | None = None
    """Task of every row; None: that of its answer type."""
    thinking: bool | None = None
    thinking_budget: int | None = None
    files: dict[str, str] = {}
    """Source of each data set, by its name in the results."""
    examples: dict[str, str] = {}
    """Digest of the examples shown before each question, by data set; "" for those of the task."""

    @classmethod
    def of(
        cls,
        *,
        model: str,
        seed: int,
        dtype: str | None,
        capabilities: Capabilities,
        strategies: Mapping[str, AnyStrategy],
        verifier: str | None = None,
        budget_tokens: int | None = None,
        files: Mapping[str, str] | None = None,
        prompting: Mapping[str, Prompting] | None = None,
    ) -> "RunSettings":
        """Return the settings, with the strategies converted to JSON values.

        `prompting` has the prompts of each data set, of which only the examples differ.
        """
        fields = {name: {"kind": type(one).__name__, **_fields(one)} for name, one in strategies.items()}
        shared = next(iter((prompting or {}).values()), Prompting())
        return cls(
            model=model,
            seed=seed,
            dtype=dtype,
            capabilities=capabilities,
            strategies=to_jsonable_python(fields),
            verifier=verifier,
            budget_tokens=budget_tokens,
            files=dict(files or {}),
            task=None if shared.task is None else shared.task.name,
            thinking=shared.thinking.enabled,
            thinking_budget=shared.thinking.budget,
            examples={name: one.digest for name, one in (prompting or {}).items()},
        )

    def merge(self, earlier: "RunSettings", folder: Path) -> "RunSettings":
        """Return these settings with the strategies and data sets of an earlier part of the run added.

        Raises ConfigError naming `folder` and the first setting that differs.
        """
        before, now = earlier.model_dump(mode="json"), self.model_dump(mode="json")
        for name in _FIXED:
            _require_equal(folder, name, before[name], now[name])
        for name, fields in now["strategies"].items():
            _require_equal(folder, name, before["strategies"].get(name, fields), fields)
        for name, source in now["files"].items():
            _require_equal(folder, f"file {name}", before["files"].get(name, source), source)
            if name in before["files"]:
                shown = (before["examples"].get(name, ""), now["examples"].get(name, ""))
                _require_equal(folder, f"examples of {name}", *shown)
        merged = {name: {**before[name], **now[name]} for name in ("strategies", "files", "examples")}
        return self.model_copy(update=merged)


def read_settings(folder: Path, field: str = "out") -> RunSettings | None:
    """Return the settings of the run in a folder; None if there is no run.

    Raises ConfigError about the option `field` if they can't be read.
    """
    file = folder / "run.json"
    try:
        return RunSettings.model_validate_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise ConfigError(field, f"{file} can't be read as a run's settings", "use another folder") from error


def _fields(strategy: AnyStrategy) -> dict[str, object]:
    if is_dataclass(strategy):
        return asdict(strategy)
    own_repr = type(strategy).__repr__ is not object.__repr__  # the default has an address, which no run repeats
    return {"settings": repr(strategy) if own_repr else type(strategy).__qualname__}


def _require_equal(folder: Path, name: str, before: JsonValue, now: JsonValue) -> None:
    if isinstance(before, dict) and isinstance(now, dict):
        for field in dict.fromkeys([*before, *now]):
            _require_equal(folder, f"{name}.{field}", before.get(field), now.get(field))
    elif before != now:
        problem = f"{folder} holds a run with another {name}: {before!r} there, {now!r} here"
        raise ConfigError("out", problem, "use another folder")
