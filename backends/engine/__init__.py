"""The embedded engine: torch and transformers in this process. Needs the extra `engine`."""

from branchwise.backends.engine.model.allocator import enable_huge_pages

enable_huge_pages()  # before any module of the engine imports torch
