"""Where things lie on this machine (docs/promises.md, "Settings and places").

Owns: which folder is the home, that it is the user's alone, the names in it, and where the socket is,
derived alike by the client and the daemon. Does not own: what the files contain.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from wherry.errors import BadSetting
from wherry.wire.failpoints import failpoint

_BEFORE_PUBLISH = failpoint("places.socket.before-publish")

# Names in the home: ``home / QUEUE``.
QUEUE = "queue.db"
RESERVE = "reserve"  # kept free for a full disk
SPOOL = "spool"
ROOM = "spool.room"  # how full the spool is
SESSIONS = "spool/sessions"
CACHE = "cache"
LINEAGE = "lineage"
STORE = "store"
SOCKET = "daemon.sock"
SOCKET_ELSEWHERE = "daemon.sock.path"  # where the socket is when the home's path is too long
LOG = "daemon.log"
CONFIG = "config.toml"
INSTANCE_LOCK = "daemon.lock"  # held by the daemon while it runs; clients read its pid at most
SPAWN_LOCK = "spawn.lock"  # held by the client that is starting a daemon

MAX_SOCKET_PATH_BYTES = 100
_UNWRITTEN = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def home(environ: Mapping[str, str] | None = None) -> Path:
    """Find the home, make it if it is missing, and check that it is the user's alone.

    Args:
        environ: for ``WHERRY_HOME``; the process's own by default.

    Returns:
        An absolute path without symbolic links, so that every process derives the same socket. A relative
        one is what it was when this process first asked: a program that changes its folder keeps its home.

    Raises:
        BadSetting: the folder can't be made, belongs to another user, is open to others and holds
            things that are not Wherry's, or its path is not UTF-8 or has a control character.
    """
    environ = os.environ if environ is None else environ
    chosen = environ.get("WHERRY_HOME") or ""
    named = os.path.expanduser(chosen or "~/.wherry")
    named = _first_meant.get(named) or _first_meant.setdefault(named, os.path.abspath(named))
    known = _homes.get(named)
    if known is not None and known.is_unchanged(named):
        return known.path
    folder = os.path.realpath(named)
    _check_written(folder)
    if not chosen:
        _check_user_folder()
    try:
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        _make_private(folder)
        _check_private(folder)
        _homes[named] = _Home(Path(folder), os.geteuid(), _signature(folder))
    except OSError as error:
        raise BadSetting(
            f"The home {folder} can't be used: {error.strerror}.",
            hint="Set WHERRY_HOME to a folder of yours on a local disk.",
        ) from error
    return Path(folder)


class _Home(NamedTuple):
    """A home that was found and checked; each artifact asks for it."""

    path: Path
    user: int
    signature: tuple[int, int, int, int]

    def is_unchanged(self, named: str) -> bool:
        """Whether what is called so is the folder that was checked, for the same user."""
        try:
            return self.user == os.geteuid() and self.signature == _signature(named)
        except OSError:
            return False


_homes: dict[str, _Home] = {}
_first_meant: dict[str, str] = {}  # absolute paths, by WHERRY_HOME


def _signature(folder: str) -> tuple[int, int, int, int]:
    seen = os.stat(folder)
    return seen.st_dev, seen.st_ino, seen.st_mode, seen.st_uid


def _check_written(folder: str) -> None:
    """The home's path stands in addresses, messages and the daemon's arguments."""
    if _UNWRITTEN.search(folder):
        raise BadSetting(
            f"The home's path {folder!a} is not UTF-8, or has a control character.",
            hint="Set WHERRY_HOME to a folder with a plain name.",
        )


def socket_path(home: Path) -> Path:
    """Say where the home's daemon listens.

    In the home, unless that path has over 100 bytes (Linux takes 107, macOS 103): then in
    ``$XDG_RUNTIME_DIR``, else in ``/tmp/wherry-<uid>/``. As processes may differ in
    ``XDG_RUNTIME_DIR``, the first to ask publishes the answer in the home and the others follow;
    so ask again before each connect.

    Raises:
        BadSetting: there is no place for a socket that is the user's alone.
    """
    real = os.path.realpath(home)
    inside = os.path.join(real, SOCKET)
    if len(os.fsencode(inside)) <= MAX_SOCKET_PATH_BYTES:
        return Path(inside)
    published = os.path.join(real, SOCKET_ELSEWHERE)
    return Path(_published(published) or _publish(published, _short_path(real)))


def _check_user_folder() -> None:
    user_folder = os.path.expanduser("~")
    if user_folder == "~":
        raise BadSetting("This user has no home folder.", hint="Set WHERRY_HOME.")
    if os.geteuid() == 0 and os.path.exists(user_folder) and os.stat(user_folder).st_uid:
        # sudo kept $HOME: what root makes here would lock the user out
        raise BadSetting(
            f"Running as root, with {user_folder} that belongs to another user.",
            hint="Run as that user, use `sudo -H`, or set WHERRY_HOME.",
        )


def _make_private(folder: str) -> None:
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass


def _check_private(folder: str) -> None:
    seen = os.stat(folder)
    if not stat.S_ISDIR(seen.st_mode):
        raise BadSetting(f"The home {folder} is no folder.", hint="Set WHERRY_HOME to a folder.")
    if seen.st_uid != os.geteuid():
        raise BadSetting(
            f"The home {folder} belongs to user {seen.st_uid}, and this is user {os.geteuid()}.",
            hint="A home belongs to one user: set WHERRY_HOME to a folder of your own.",
        )
    if seen.st_mode & 0o077:
        _close_to_others(folder)


def _close_to_others(folder: str) -> None:
    """Take a folder that the user made for Wherry; never change one that serves something else."""
    ours = (QUEUE, SPOOL, CACHE, LINEAGE, STORE, SOCKET, LOG, CONFIG, INSTANCE_LOCK, SPAWN_LOCK)
    foreign = [name for name in os.listdir(folder) if not name.startswith(ours)]
    if foreign:
        raise BadSetting(
            f"The home {folder} is open to other users and holds {foreign[0]!r}.",
            hint=f"Set WHERRY_HOME to a folder of its own, or run `chmod 700 {folder}`.",
        )
    os.chmod(folder, 0o700)


def _short_path(real_home: str) -> str:
    from hashlib import sha256

    name = f"wherry-{sha256(os.fsencode(real_home)).hexdigest()[:16]}.sock"
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    path = os.path.join(runtime, name)
    fits = len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES
    if os.path.isabs(runtime) and fits and _is_private(runtime):
        return path
    folder = f"/tmp/wherry-{os.geteuid()}"  # noqa: S108 (checked to be ours right below)
    _make_private(folder)
    if not _is_private(folder):
        raise BadSetting(
            f"{folder} is not a folder that only this user can enter.",
            hint="Set XDG_RUNTIME_DIR to one that is, or WHERRY_HOME to a shorter path.",
        )
    return os.path.join(folder, name)


def _is_private(folder: str) -> bool:
    try:
        seen = os.lstat(folder)
    except OSError:
        return False
    private = stat.S_ISDIR(seen.st_mode) and not seen.st_mode & 0o077
    return private and seen.st_uid == os.geteuid()


def _published(file: str) -> str | None:
    try:
        with open(file, encoding="utf-8", errors="surrogateescape") as opened:
            path = opened.read()
    except FileNotFoundError:
        return None
    return path if path and _is_private(os.path.dirname(path)) else None


def _publish(file: str, path: str) -> str:
    mine = f"{file}.{os.urandom(8).hex()}"
    with open(mine, "w", encoding="utf-8", errors="surrogateescape") as opened:
        opened.write(path)
    _BEFORE_PUBLISH()
    os.replace(mine, file)
    return path
