"""Settings of the plugin for `vllm serve`, which the operator gives as environment variables.

BRANCHWISE_MAX_PATHS, _MAX_TOKENS, _MAX_SECONDS, _MAX_BODY_BYTES   limits of one request
BRANCHWISE_MAX_QUESTIONS, _QUEUE, _MAX_QUEUE_SECONDS               questions at the same time, and those that wait
BRANCHWISE_LOG_FORMAT, BRANCHWISE_TELEMETRY                        text or json; 1 exports OpenTelemetry spans
"""

from collections.abc import Mapping
from dataclasses import dataclass

from branchwise.chat.limits import Limits
from branchwise.core.errors import ConfigError, require
from branchwise.observability.logs import Format

DEFAULTS = Limits(questions=64, queue=256)
"""More questions than a server of one's own answers, because vLLM schedules the branches of all of them itself."""

_WHOLE_NUMBERS = {
    "BRANCHWISE_MAX_PATHS": "paths",
    "BRANCHWISE_MAX_TOKENS": "tokens",
    "BRANCHWISE_MAX_BODY_BYTES": "body_bytes",
    "BRANCHWISE_MAX_QUESTIONS": "questions",
    "BRANCHWISE_QUEUE": "queue",
}
_NUMBERS = {"BRANCHWISE_MAX_SECONDS": "seconds", "BRANCHWISE_MAX_QUEUE_SECONDS": "queue_seconds"}
_FORMATS: Mapping[str, Format] = {"text": "text", "json": "json"}
_SWITCH = {"": False, "0": False, "false": False, "1": True, "true": True}


@dataclass(frozen=True, slots=True)
class PluginSettings:
    """Limits, and what is logged and exported."""

    limits: Limits = DEFAULTS
    log_format: Format | None = None
    """Format of the log of questions and requests; None logs none."""
    spans: bool = False
    """Export OpenTelemetry spans."""

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "PluginSettings":
        """Return the settings of an environment. Raises ConfigError with the name of the variable."""
        given = {name: text for name, text in environment.items() if text}
        values: dict[str, float] = {}
        for name, field in _NUMBERS.items():
            values[field] = _number(name, given[name]) if name in given else getattr(DEFAULTS, field)
        counts: dict[str, int] = {}
        for name, field in _WHOLE_NUMBERS.items():
            counts[field] = _count(name, given[name]) if name in given else getattr(DEFAULTS, field)
        limits = Limits(
            paths=counts["paths"],
            tokens=counts["tokens"],
            seconds=values["seconds"],
            body_bytes=counts["body_bytes"],
            questions=counts["questions"],
            queue=counts["queue"],
            queue_seconds=values["queue_seconds"],
        )
        return cls(limits, _log_format(given), _switch(given, "BRANCHWISE_TELEMETRY"))


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    require(0 < value < float("inf"), name, f"is {text!r}", "use a positive number")
    return value


def _count(name: str, text: str) -> int:
    least = 0 if name == "BRANCHWISE_QUEUE" else 1
    valid = text.isascii() and text.isdecimal() and int(text) >= least
    require(valid, name, f"is {text!r}", f"use a whole number, at least {least}")
    return int(text)


def _log_format(given: Mapping[str, str]) -> Format | None:
    name = given.get("BRANCHWISE_LOG_FORMAT")
    if name is None:
        return None
    if name not in _FORMATS:
        raise ConfigError("BRANCHWISE_LOG_FORMAT", f"is {name!r}", "use text or json")
    return _FORMATS[name]


def _switch(given: Mapping[str, str], name: str) -> bool:
    text = given.get(name, "")
    require(text.lower() in _SWITCH, name, f"is {text!r}", "use 1 or 0")
    return _SWITCH[text.lower()]
