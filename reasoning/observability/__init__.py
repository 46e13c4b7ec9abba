"""Watching runs from outside: OpenTelemetry spans and structured logs. Neither holds what was asked or said, unless
asked for."""
