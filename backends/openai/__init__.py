"""Backend over HTTP for any OpenAI-compatible server."""
