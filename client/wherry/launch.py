"""Starts the machine's daemon, once, however many processes ask for it at the same time.

Owns: which command the daemon is, the spawn lock, and how the process is started. Does not own: the
instance lock (the daemon's, and the kernel's truth about who serves a home: a client never touches it),
connections.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from wherry import detach
from wherry.errors import DaemonMissing, DaemonNotStarted
from wherry.wire import places
from wherry.wire.failpoints import failpoint

if TYPE_CHECKING:
    import subprocess

_Found = TypeVar("_Found")

_LOCKED = failpoint("launch.lock.taken")
_ROLLED = failpoint("launch.log.rolled")
_STARTED = failpoint("launch.process.started")

START_S = 60.0
"""How long a start may take. It takes under 1.5 s, but for a cold network file system."""

INSTALL = "pip install 'wherry[daemon]', or: uv tool install 'wherry[daemon]'"

#: A daemon that is ended while it starts is started again; so often, and over so long, that it is no
#: accident, not. A start takes seconds on a machine that is busy enough for somebody to kill on it.
_KILLS = 5
_KILLED_S = 20.0
_LONGEST_PAUSE_S = 2.0

_PACKAGES = ("aiohttp", "aiosqlite", "anyio", "grpc", "msgspec", "structlog", "zstandard")
_LOG_LINES = 20
_LOG_BYTES = 10 << 20


class _Killed(Exception):
    """Somebody killed the daemon while it started, or told it to end; ``told`` is what to raise if that
    goes on.
    """

    def __init__(self, told: DaemonNotStarted) -> None:
        super().__init__(str(told))
        self.told = told


def connect_or_start(home: Path, connect: Callable[[], _Found | None]) -> _Found:
    """Return what ``connect`` gives; start the daemon if it gives None.

    One of many racing processes starts it; the others wait until it answers.

    Args:
        home: the daemon's.
        connect: gives None while nobody listens.

    Raises:
        DaemonMissing: there is no daemon on this machine.
        DaemonNotStarted: it ended at once or does not answer; shows the log's last lines.
    """
    end_s = time.monotonic() + START_S
    killed, first_s = 0, 0.0
    try:
        for _ in pauses(end_s):
            found = connect()
            if found is not None:
                return found
            with _spawn_lock(home) as mine:
                if mine:
                    _LOCKED()
                    try:
                        return connect() or _start(home, connect, _command(home), end_s)
                    except _Killed as ended:
                        killed += 1
                        first_s = first_s or time.monotonic()
                        if killed >= _KILLS and time.monotonic() - first_s >= _KILLED_S:
                            raise ended.told from None
                        time.sleep(min(_LONGEST_PAUSE_S, 0.01 * 2.0**killed))
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise DaemonNotStarted(
                f"The daemon of {home} can't be reached: {error.strerror}.",
                hint="Close files, or raise the limit (ulimit -n), and call again.",
            ) from error
        raise DaemonNotStarted(
            f"The home {home} can't be used: {error}.",
            hint="Set WHERRY_HOME to a folder of yours, with free space, on a local disk.",
        ) from error
    raise DaemonNotStarted(f"Another process has been starting a daemon for {home} for too long.")


def find_command(chosen: str | None = None) -> list[str]:
    """Find the command that starts the daemon, without its arguments.

    It is ``chosen`` (the setting ``daemon``), else this interpreter's ``wherryd`` if the packages it
    needs are here, else the first other ``wherryd`` on PATH.

    Raises:
        DaemonMissing: says how to install it.
    """
    if chosen:
        import shlex

        return shlex.split(chosen)
    own = os.path.join(sys.prefix, "bin", "wherryd")
    if _is_program(own) and _has_packages():
        return [own]
    for folder in os.get_exec_path():
        path = os.path.join(folder, "wherryd")
        # the light client brings a `wherryd` too, which could only say what is missing
        if _is_program(path) and not _is_same(path, own):
            return [path]
    raise DaemonMissing(
        "Wherry's daemon is not installed: this environment has the light client only.",
        hint=f"Install it beside or anywhere on PATH: {INSTALL}",
    )


def pauses(end_s: float) -> Iterator[None]:
    """Come round at once, then after growing pauses, until the time is over."""
    pause_s = 0.002
    while True:
        yield
        if time.monotonic() >= end_s:
            return
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.05)


def _command(home: Path) -> list[str]:
    from wherry.wire.settings import load

    return find_command(load({}, os.environ, home).daemon)


def _start(
    home: Path, connect: Callable[[], _Found | None], command: list[str], end_s: float
) -> _Found:
    if os.stat(home).st_uid != os.geteuid():
        raise DaemonNotStarted(
            f"The home {home} belongs to another user.",
            hint="Run as that user, or set WHERRY_HOME to a folder of your own.",
        )
    log = home / places.LOG
    begin = _roll(log)
    process = _spawn(home, log, command)
    try:
        _STARTED()
        for _ in pauses(end_s):
            ended = process.poll()  # before the look, so that an answer given meanwhile counts
            found = connect()
            if found is not None:
                return found
            if ended is not None:
                raise _ended(command, ended, log, begin)
        raise _not_started(command, f"did not answer within {START_S:.0f} s", log, begin)
    finally:
        process.kill()  # what stands between, see detach.py; the daemon goes on
        process.wait()


def _spawn(home: Path, log: Path, command: list[str]) -> subprocess.Popen[bytes]:
    import subprocess

    start = [_interpreter(), "-I", "-S", detach.__file__, *command, "--home", str(home)]
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        return subprocess.Popen(
            start,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=_environment(home, command),
            start_new_session=True,
        )
    except OSError as error:
        raise DaemonNotStarted(f"{start[0]} can't be started: {error.strerror}.") from error
    finally:
        os.close(output)


def _roll(log: Path) -> int:
    """Set a long log aside; return where the next daemon's words begin."""
    size_bytes = log.stat().st_size if log.exists() else 0
    if size_bytes < _LOG_BYTES:
        return size_bytes
    log.replace(log.with_name(f"{log.name}.old"))
    _ROLLED()
    return 0


def _interpreter() -> str:
    """A Python to run ``detach.py`` with; in a program that embeds Python, not that program."""
    own = sys.executable or ""
    beside = (os.path.join(prefix, "bin", "python3") for prefix in (sys.prefix, sys.base_prefix))
    for path in (own, *beside):
        if os.path.basename(path).startswith("python") and _is_program(path):
            return path
    raise DaemonNotStarted("No Python interpreter was found.", hint="Start `wherryd` by hand.")


def _environment(home: Path, command: list[str]) -> dict[str, str]:
    environ = {**os.environ, "WHERRY_HOME": str(home)}
    if not command[0].startswith(sys.prefix):  # another environment: this one's modules don't fit
        for name in ("PYTHONPATH", "PYTHONHOME"):
            environ.pop(name, None)
    return environ


@contextmanager
def _spawn_lock(home: Path) -> Iterator[bool]:
    """Give True while no other process is starting a daemon.

    A POSIX lock, not a flock: forked children do not inherit it, so that none keeps it from the rest
    when this process is killed. Within a process the caller lets one thread in at a time.
    """
    file = os.open(home / places.SPAWN_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            yield False
        else:
            yield True
    finally:
        os.close(file)


def _ended(command: list[str], code: int, log: Path, begin: int) -> _Killed | DaemonNotStarted:
    killed = code > detach.SIGNALLED
    what = (
        f"was ended by signal {code - detach.SIGNALLED}"
        if killed
        else f"ended with exit code {code}"
    )
    told = _not_started(command, what, log, begin)
    return _Killed(told) if killed or code == 0 else told


def _not_started(command: list[str], what: str, log: Path, begin: int) -> DaemonNotStarted:
    with open(log, "rb") as opened:
        opened.seek(begin)
        said = opened.read().decode(errors="replace").strip().splitlines()[-_LOG_LINES:]
    lines = "\n    ".join(said) or _why_silent(log)
    return DaemonNotStarted(
        f"The daemon ({' '.join(command)}) {what}. It said in {log}:\n    {lines}",
        hint="Mend what it names, or run `wherryd` in a terminal to see more.",
    )


def _why_silent(log: Path) -> str:
    """A full disk takes no last words either."""
    try:
        with open(log, "ab", buffering=0) as opened:
            opened.write(b"\n")
    except OSError as error:
        return f"(nothing, for the log can't be written: {error.strerror})"
    return "(nothing)"


def _has_packages() -> bool:
    from importlib.util import find_spec

    return all(find_spec(name) for name in _PACKAGES)


def _is_program(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _is_same(path: str, other: str) -> bool:
    return os.path.exists(other) and os.path.samefile(path, other)
