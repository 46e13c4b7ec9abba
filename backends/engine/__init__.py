"""The embedded engine: torch and transformers in this process. Needs the extra `engine`."""

from branchwise.backends.engine.model.allocator import huge_pages

huge_pages()  # here, before anything of the engine imports torch
