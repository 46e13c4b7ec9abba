"""The embedded engine: torch and transformers in this process. Needs the extra `engine`."""
