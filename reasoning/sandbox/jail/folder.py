"""Temporary folder of a program that shares the file system with the machine."""

import os
from contextlib import suppress

_PLACES = ("/tmp", "/var/tmp")
_PREFIX = "branchwise-"
_PASS, _PRIVATE = 0o711, 0o700


def name() -> str:
    """Return the path of a folder that does not exist: each process that removes it knows it before it is made."""
    place = next((place for place in _PLACES if os.access(place, os.W_OK)), _PLACES[0])
    return f"{place}/{_PREFIX}{os.urandom(8).hex()}"


def make(folder: str, part: str) -> str:
    """Make the folder of one process inside a program's folder; return its path."""
    with suppress(FileExistsError):
        os.mkdir(folder, _PASS)
    os.chmod(folder, _PASS)  # whatever the umask
    made = f"{folder}/{part}"
    os.mkdir(made, _PRIVATE)
    return made


def remove(folder: str) -> None:
    """Remove a folder if it exists, even one nested deeper than Python can recurse or without permissions."""
    if os.path.exists(folder):
        for command in (["/bin/chmod", "-R", "u+rwx", folder], ["/bin/rm", "-rf", folder]):
            with suppress(ChildProcessError):
                os.waitpid(os.posix_spawn(command[0], command, {}), 0)
