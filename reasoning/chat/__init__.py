"""Conversations answered by a strategy. `serving` and `integrations` both build on it; neither imports the other."""
