"""Conversations answered by a strategy. Serving and integrations build on it."""
