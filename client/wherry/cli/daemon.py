"""``wherry daemon …``: the machine's daemon as a process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from wherry import messages as pb
from wherry.cli import output, params
from wherry.cli.calls import Daemon, settings
from wherry.cli.command import Group, command, option
from wherry.cli.words import local_time
from wherry.errors import CommError, NotFoundError
from wherry.wire import places
from wherry.wire.status import ConnectionLost

_LOOK_EVERY_S = 0.1
_CHUNK_BYTES = 64 << 10

_TEXT = """\
Start, stop and look at the machine's daemon.

It starts by itself when something is logged, and ends after ten minutes
without clients and work; so none of this is needed.
"""

daemon = Group(_TEXT, dict.fromkeys(("start", "stop", "status", "logs"), "daemon"))


@command(params.JSON)
def start(json: bool) -> None:
    """Start the daemon, if none runs.

    It goes on with whatever the queue of this home holds.

      wherry daemon start

    --json gives the keys of `wherry daemon status --json`.
    """
    chosen = settings()
    machine = Daemon(chosen)
    before = machine.running()
    found = machine.start()
    if json:
        output.print_json(daemon_json(found, chosen.home))
    elif before is not None and before.pid == found.pid:
        output.print_text(f"already running: {daemon_text(found)}")
    else:
        output.print_text(f"started: {daemon_text(found)}")


@command(
    option(
        "--if-idle", action="store_true", help="Leave it alone, and exit with 1, if it has work."
    ),
    params.TIMEOUT.but(
        default="30s", help="Wait no longer than this: 60s, 10m, 1.5h. [default: %(default)s]"
    ),
)
def stop(if_idle: bool, timeout_s: float) -> None:
    """Stop the daemon, and wait until it has ended.

    Running steps get 10 s to end. Nothing is lost: what is not done stays in
    the queue, and the next daemon goes on with it.

      wherry daemon stop
      wherry daemon stop --if-idle
    """
    chosen = settings()
    machine = Daemon(chosen)
    found = machine.running()
    if found is None:
        output.print_text("no daemon runs")
        return
    if not _asked_to_leave(machine, if_idle=if_idle) and _serves(machine, found.pid):
        raise CommError(
            f"The daemon (pid {found.pid}) has work, and goes on.",
            hint="`wherry status` shows its work; without --if-idle it ends all the same.",
        )
    _wait_gone(machine, found.pid, timeout_s)
    output.print_text(f"stopped (pid {found.pid})")


@command(params.JSON)
def status(json: bool) -> None:
    """Say whether a daemon runs. Starts none.

      wherry daemon status
      wherry daemon status --json | jq .pid

    --json gives one object: running (true or false), pid, version, protocol
    (null where none runs), home, socket, draining (it takes no new request),
    busy (it has requests that are not done).
    """
    chosen = settings()
    found = Daemon(chosen).running()
    if json:
        output.print_json(daemon_json(found, chosen.home))
        return
    output.print_text(daemon_text(found))
    output.print_fields(
        (("home", str(chosen.home)), ("socket", str(places.socket_path(chosen.home))))
    )


@command(
    option(
        "-n",
        "--lines",
        metavar="COUNT",
        type=params.count_from(0),
        default=50,
        help="How many of the last lines. [default: %(default)s]",
    ),
    option("-f", "--follow", action="store_true", help="Go on with what is written from now on."),
    params.JSON,
)
def logs(lines: int, follow: bool, json: bool) -> None:
    """Show the end of the daemon's log.

      wherry daemon logs -n 200
      wherry daemon logs -f

    --json gives one object: file, lines.
    """
    log = settings().home / places.LOG
    if not log.exists():
        raise NotFoundError(f"There is no log {log}.", hint="No daemon was started in this home.")
    last, end = _last_lines(log, lines)
    if json:
        output.print_json({"file": str(log), "lines": last})
        return
    for line in last:
        output.print_text(line)
    if follow:
        output.print_now("")
        for text in _written_from(log, end):
            output.print_now(text)


def daemon_json(found: pb.HelloReply | None, home: Path) -> dict[str, object]:
    """Give the keys that ``--json`` shows of a daemon; they stay as they are."""
    running = found is not None and bool(found.pid)
    return {
        "running": running,
        "pid": found.pid if found and running else None,
        "version": found.version if found and running else None,
        "protocol": found.protocol if found and running else None,
        "home": str(home),
        "socket": str(places.socket_path(home)),
        "draining": bool(found and found.draining),
        "busy": bool(found and found.busy),
    }


def daemon_text(found: pb.HelloReply | None, started: str = "") -> str:
    """Say in one line who runs."""
    if not found or not found.pid:
        return "no daemon runs; it starts by itself when something is logged"
    since = f", since {local_time(started)}" if started else ""
    what = "; it is ending" if found.draining else ""
    return f"wherryd {found.version}, pid {found.pid}{since}, home {found.home}{what}"


def _asked_to_leave(machine: Daemon, *, if_idle: bool) -> bool:
    try:
        return machine.stop("wherry daemon stop", if_idle=if_idle)
    except ConnectionLost:  # it was ending by itself
        return False


def _wait_gone(machine: Daemon, pid: int, timeout_s: float) -> None:
    """The socket goes first; the process after it, and with it the lock on the home."""
    end_s = time.monotonic() + timeout_s
    while _serves(machine, pid) or _is_alive(pid):
        if time.monotonic() >= end_s:
            raise CommError(
                f"The daemon (pid {pid}) has not ended after {timeout_s:.0f} s.",
                hint=f"`wherry daemon logs` shows what it does; `kill -9 {pid}` loses nothing.",
            )
        time.sleep(_LOOK_EVERY_S)


def _serves(machine: Daemon, pid: int) -> bool:
    try:
        found = machine.running()
    except CommError:
        return False
    return found is not None and found.pid == pid


def _is_alive(pid: int) -> bool:
    """Whether a process runs. One that has ended does not, although nobody may have waited for it yet:
    in a container, whose first process may never do it.
    """
    import os

    try:
        state = (
            Path(f"/proc/{pid}/stat")
            .read_text(encoding="utf-8", errors="replace")
            .rpartition(")")[2]
            .split()[0]
        )
    except OSError:
        pass  # it is gone, or there is no /proc
    else:
        return state not in "ZX"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _last_lines(log: Path, count: int) -> tuple[list[str], int]:
    """Read backwards from the end as far as needed; the log may be long."""
    with log.open("rb") as opened:
        end = at = opened.seek(0, 2)
        read = b""
        while at and read.count(b"\n") <= count:
            size = min(_CHUNK_BYTES, at)
            at = opened.seek(at - size)
            read = opened.read(size) + read
    lines = read.decode(errors="replace").splitlines()
    return lines[-count:] if count else [], end


def _written_from(log: Path, at: int) -> Iterator[str]:
    """What is written from now on; from the start again where the file was replaced or cut."""
    while True:
        with log.open("rb") as opened:
            opened.seek(at)
            text = opened.read()
            at = opened.tell()
        if text:
            yield text.decode(errors="replace")
        time.sleep(_LOOK_EVERY_S)
        at = 0 if log.stat().st_size < at else at
