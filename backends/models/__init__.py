"""Find, fetch and convert models: local folders, GGUF files, the model hub and the cache of converted models."""
