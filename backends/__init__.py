"""Backends: the interface that strategies run on, and the models behind it.

The interface is imported here. The backends are imported on first use, so that this package needs neither torch nor
vllm nor httpx.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from branchwise.backends.base import Backend, Capabilities, ExtendRequest, Scores
from branchwise.backends.openai.connect import connect
from branchwise.backends.stream import BranchEvent, BranchStream, Broken, Ended, Extension, Tokens

if TYPE_CHECKING:
    from branchwise.backends.engine.settings import EngineSettings
    from branchwise.backends.models.load import load
    from branchwise.backends.openai.backend import OpenAIBackend
    from branchwise.backends.openai.settings import OpenAISettings
    from branchwise.backends.recorded.backend import RecordedBackend
    from branchwise.backends.recorded.record import Record
    from branchwise.backends.scripted.backend import ScriptedBackend
    from branchwise.backends.scripted.reply import Reply
    from branchwise.backends.vllm.backend import VLLMBackend
    from branchwise.backends.vllm.settings import VLLMSettings

_MODULES = {
    "EngineSettings": "engine.settings",
    "OpenAIBackend": "openai.backend",
    "OpenAISettings": "openai.settings",
    "Record": "recorded.record",
    "RecordedBackend": "recorded.backend",
    "Reply": "scripted.reply",
    "ScriptedBackend": "scripted.backend",
    "VLLMBackend": "vllm.backend",
    "VLLMSettings": "vllm.settings",
    "load": "models.load",
}
"""Module of each name that is imported on first use."""

__all__ = [
    "Backend",
    "BranchEvent",
    "BranchStream",
    "Broken",
    "Capabilities",
    "Ended",
    "EngineSettings",
    "ExtendRequest",
    "Extension",
    "OpenAIBackend",
    "OpenAISettings",
    "Record",
    "RecordedBackend",
    "Reply",
    "Scores",
    "ScriptedBackend",
    "Tokens",
    "VLLMBackend",
    "VLLMSettings",
    "connect",
    "load",
]


def __getattr__(name: str) -> object:
    """Import a backend on first use. Raises MissingExtraError if its extra is not installed."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
