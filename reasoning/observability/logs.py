"""Structured logs on the standard `logging` module: an event name and fields, in loggers named branchwise.*."""

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
"""Parent of all loggers of this library."""


def emit(logger: logging.Logger, level: int, event: str, fields: Fields) -> None:
    """Log an event. Fields are kept out of the message, so they are never formatted; handlers read `record.fields`."""
    if logger.isEnabledFor(level):
        logger.log(level, event, extra={"fields": dict(fields)})


def configure(format: Format = "json", level: str = "INFO", stream: TextIO | None = None) -> logging.Handler:
    """Write the logs of this library to `stream` (default: standard error), one line each. Call again to change.

    Without this call, logs follow the application's own logging. Raises ConfigError for an unknown format or level.
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
    """Formatter that writes one JSON object per line: time (ISO 8601, UTC), level, logger, event, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_facts(self, record), default=str)


class TextLines(logging.Formatter):
    """Formatter for people: time, level and event, then name=value."""

    def format(self, record: logging.LogRecord) -> str:
        facts = _facts(self, record)
        time, level, logger, event = (facts.pop(name) for name in ("time", "level", "logger", "event"))
        fields = (f"{name}={_quoted(value)}" for name, value in facts.items() if value is not None)
        return " ".join([f"{time} {level:<7} {logger}: {_quoted(event)}", *fields])


def trace_ids() -> dict[str, JsonValue]:
    """Return the ids of the current trace and span; empty without one."""
    try:
        from opentelemetry import trace
    except ImportError:
        return {}
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(span.trace_id), "span_id": trace.format_span_id(span.span_id)}


def _facts(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, JsonValue]:
    """Return a record's facts. Records that other code logs to these loggers have no fields."""
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


def _quoted(value: JsonValue) -> str:
    """Format a value on one line, quoted unless it is a plain word."""
    if isinstance(value, str) and value.isascii() and value.isprintable() and not set(value) & set(' "=\\'):
        return value or '""'
    return json.dumps(value, default=str)


def log_warnings(*names: str) -> None:
    """Log the warnings and errors of other libraries' loggers in the format of all other logs."""
    for name in names:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = list(ROOT.handlers), False
        logger.setLevel(logging.WARNING)
