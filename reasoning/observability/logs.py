"""Structured logs on the standard `logging` module: an event's name and its fields, in loggers named branchwise.*."""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal, TextIO

from pydantic import JsonValue

from branchwise.core.errors import require

Format = Literal["json", "text"]
Fields = Mapping[str, JsonValue]

ROOT = logging.getLogger("branchwise")
"""Above all loggers of this library."""


def emit(logger: logging.Logger, level: int, event: str, fields: Fields) -> None:
    """Log an event. Fields are in no message and so never formatted; handlers find them as `record.fields`."""
    if logger.isEnabledFor(level):
        logger.log(level, event, extra={"fields": dict(fields)})


def configure(format: Format = "json", level: str = "INFO", stream: TextIO | None = None) -> logging.Handler:
    """Write the logs of this library to `stream` (standard error), one line each; again, to change how.

    Without this they go where the application's own logging sends them. Raises ConfigError.
    """
    require(format in ("json", "text"), "log_format", f"is {format!r}", "use json or text")
    known = logging.getLevelNamesMapping()
    require(level.upper() in known, "log_level", f"is {level!r}", "use debug, info, warning or error")
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JSONLines() if format == "json" else TextLines())
    for old in [old for old in ROOT.handlers if isinstance(old.formatter, JSONLines | TextLines)]:
        ROOT.removeHandler(old)
    ROOT.addHandler(handler)
    ROOT.setLevel(known[level.upper()])
    ROOT.propagate = False
    return handler


class JSONLines(logging.Formatter):
    """One JSON object a line: time (ISO 8601, UTC), level, logger, event, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_facts(self, record), default=str)


class TextLines(logging.Formatter):
    """The same for people: time, level and event, then name=value."""

    def format(self, record: logging.LogRecord) -> str:
        facts = _facts(self, record)
        time, level, logger, event = (facts.pop(name) for name in ("time", "level", "logger", "event"))
        fields = (f"{name}={_shown(value)}" for name, value in facts.items() if value is not None)
        return " ".join([f"{time} {level:<7} {logger}: {_shown(event)}", *fields])


def trace_ids() -> dict[str, JsonValue]:
    """The trace and the span that are current, if any."""
    try:
        from opentelemetry import trace
    except ImportError:
        return {}
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(span.trace_id), "span_id": trace.format_span_id(span.span_id)}


def _facts(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, JsonValue]:
    """What a record says. Logs of others in these loggers have no fields."""
    fields: Fields = getattr(record, "fields", {})
    facts: dict[str, JsonValue] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": record.getMessage(),
        **fields,
    }
    if record.exc_info:
        facts["exception"] = formatter.formatException(record.exc_info)
    return facts


def _shown(value: JsonValue) -> str:
    """A value on one line and unmistakable: quoted unless it is a plain word."""
    if isinstance(value, str) and value.isascii() and value.isprintable() and not set(value) & set(' "=\\'):
        return value or '""'
    return json.dumps(value, default=str)
