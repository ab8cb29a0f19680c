"""sqlite3's errors as Wherry's. No sqlite3 error is met above this package.

Owns: which error means what, and the remedy. Does not own: what is tried again (``writer``).
The codes are those of https://www.sqlite.org/rescode.html.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from wherry.errors import QueueDamaged, QueueError, QueueLocked
from wherryd.queue.base import QueueFull

_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
#: The log's index can't grow (https://www.sqlite.org/rescode.html#ioerr_shmsize).
_SHM_SIZE = 4874
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the error says that the file is damaged, or no database at all."""
    return _code(error) in _DAMAGED


def is_full(error: sqlite3.Error) -> bool:
    """Whether the error says that the disk is full."""
    whole = getattr(error, "sqlite_errorcode", None)
    return _code(error) == sqlite3.SQLITE_FULL or whole == _SHM_SIZE


def translate(error: sqlite3.Error, name: str) -> QueueError:
    """The error of ours that says the same.

    Args:
        name: what the user knows the database by.
    """
    code = _code(error)
    if code in _LOCKED:
        return QueueLocked(
            f"another program holds {name}",
            hint=f"`fuser -v {name}` or `lsof {name}` lists who has it open; end the one that is not"
            " wherryd: a sqlite3 shell, a backup",
        )
    if is_full(error):
        return _full(name)
    if code in _DAMAGED:
        return QueueDamaged(
            f"{name} is damaged: {error}",
            hint="wherry daemon stop && wherry daemon start sets it aside and begins a new one",
        )
    return QueueError(
        f"{name} can't be used: {error}", hint="wherry doctor looks at the home's disk"
    )


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Raise sqlite3's errors, and those of the file system, as ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, name) from error
    except OSError as error:
        raise _of_file_system(error, name) from error


def _of_file_system(error: OSError, name: str) -> QueueError:
    if error.errno in _NO_ROOM:
        return _full(name)
    return QueueError(
        f"{name} can't be used: {error}", hint="wherry doctor looks at the home's disk"
    )


def _full(name: str) -> QueueFull:
    return QueueFull(f"the disk is full: {name} can't grow", hint="free space on its disk")


def _code(error: sqlite3.Error) -> int:
    # Extended codes hold the primary one in their low byte; errors of the module itself have none.
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
