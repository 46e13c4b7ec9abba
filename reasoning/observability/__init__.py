"""Observability: OpenTelemetry spans and structured logs of runs. Neither contains prompts or replies by default."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from branchwise.observability.logs import configure
    from branchwise.observability.observers import telemetry
    from branchwise.observability.question_log import QuestionLog
    from branchwise.observability.tracing import Tracing, remote_parent

_MODULES = {
    "QuestionLog": "question_log",
    "Tracing": "tracing",
    "configure": "logs",
    "remote_parent": "tracing",
    "telemetry": "observers",
}
"""Module of each name, imported on first use: tracing needs the extra `telemetry`."""

__all__ = ["QuestionLog", "Tracing", "configure", "remote_parent", "telemetry"]


def __getattr__(name: str) -> object:
    """Import a name on first use. Raises MissingExtraError without the extra `telemetry`."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
