"""Objects in the user's own code, named as MODULE:NAME or FILE.py:NAME.

The registries of strategies and verifiers load them. Loading runs the code, so names from the network are
never loaded.
"""

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from branchwise.core.errors import ConfigError
from branchwise.core.validation import suggestion


def load_object(spec: str, field: str, kind: str) -> object:
    """Return the object at MODULE:NAME or FILE.py:NAME. A file is run again only after it has changed.

    Raises ConfigError about `field` if there is no such object; `kind` is its word for NAME, such as FUNCTION.
    """
    place, _, name = spec.rpartition(":")
    if not place or not name:
        raise ConfigError(field, f"{spec!r} has no {kind.lower()}", f"write MODULE:{kind} or FILE.py:{kind}")
    found: object = _file(place, field) if place.endswith(".py") else _module(place, field)
    for part in name.split("."):
        if not hasattr(found, part):
            fix = suggestion(part, dir(found), f"name a {kind.lower()} that it defines")
            raise ConfigError(field, f"{place} has no {name}", fix)
        found = getattr(found, part)
    return found


def _module(name: str, field: str) -> ModuleType:
    """Import a module; the current folder is searched too."""
    _search_in(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(
                field, f"there is no module {name}", "install it, run in its folder, or name a file as FILE.py"
            ) from error
        raise _import_error(name, error, field) from error
    except Exception as error:  # a module may raise anything when it is imported
        raise _import_error(name, error, field) from error


def _file(place: str, field: str) -> ModuleType:
    """Import a file as a module; it can import files beside it, as when it is run."""
    file = Path(place).expanduser().resolve()
    if not file.is_file():
        raise ConfigError(field, f"there is no file {place}", "check its path")
    version = f"{file}:{file.stat().st_mtime_ns}"
    name = f"{file.stem}_{hashlib.sha256(version.encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    found = importlib.util.spec_from_file_location(name, file)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    _search_in(file.parent)
    sys.modules[name] = module  # dataclasses and pickle look there
    try:
        found.loader.exec_module(module)
    except Exception as error:  # a file may raise anything when it is run
        del sys.modules[name]
        raise _import_error(place, error, field) from error
    return module


def _import_error(name: str, error: Exception, field: str) -> ConfigError:
    why = " ".join(str(error).split())
    return ConfigError(field, f"{name} can't be imported ({type(error).__name__}: {why})", "fix the error in it")


def _search_in(folder: Path) -> None:
    """Append a folder to the module search path."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
