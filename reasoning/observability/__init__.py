"""Observability: OpenTelemetry spans and structured logs of runs. Neither contains prompts or replies by default."""
