"""The mark of an orderly end, which spares the next start a look at every page of the queue.

Owns: ``queue.db.closed`` beside the database, and when it counts. Does not own: looking for damage
(``files``), or what makes an end orderly (``database``).

It is set after the log was moved into the database and that was synced, and names the file as it was then:
where anything else has written since, it does not count. It is removed, and that synced, before this start
writes. So a kill or a loss of power leaves none, or one that is true.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from wherry.errors import QueueError
from wherry.wire.failpoints import failpoint
from wherryd.files import sync_folder
from wherryd.queue.troubles import translated

_BEFORE_SET = failpoint("queue.closed.before-set")
_TAKEN = failpoint("queue.closed.taken")


def set_mark(path: Path) -> None:
    """Say that the database is sound and nobody has it open. It is a help: without it all goes on."""
    _BEFORE_SET()
    with suppress(QueueError), translated(str(path)):
        if not _log_of(path).exists():
            _mark_of(path).write_text(_signature(path), encoding="ascii")


def take_mark(path: Path) -> bool:
    """Remove the mark; whether the database is as an orderly end left it."""
    mark = _mark_of(path)
    try:
        said = mark.read_bytes()
        mark.unlink()
    except FileNotFoundError:
        return False
    sync_folder(path.parent)
    _TAKEN()
    is_same = path.exists() and said == _signature(path).encode("ascii")
    return is_same and not _log_of(path).exists()


def _signature(path: Path) -> str:
    seen = path.stat()
    return f"{seen.st_ino} {seen.st_size} {seen.st_mtime_ns}\n"


def _mark_of(path: Path) -> Path:
    return path.with_name(path.name + ".closed")


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")
