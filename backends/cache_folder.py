"""The package's cache folder. models/ keeps converted models in it, the engine its measured costs."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return BRANCHWISE_CACHE, or `branchwise` in the user's cache directory."""
    if chosen := os.environ.get("BRANCHWISE_CACHE"):
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path  # here: `import branchwise` brings in pydantic alone

    return user_cache_path("branchwise", appauthor=False, opinion=False)
