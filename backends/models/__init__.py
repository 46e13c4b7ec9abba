"""Where models come from: local folders, the model hub, package indexes; GGUF conversion; the cache."""
