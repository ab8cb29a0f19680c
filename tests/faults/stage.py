"""A machine on which a process ends at a named place, and what must be true afterwards.

Owns: the failpoint's environment, waiting until the daemon has ended by itself, what is left behind.
Does not own: what is done on the machine (``scenes``), what arrived (``tests.support.reading``).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from tests.acceptance.conftest import Place
from tests.support.machine import Machine, Program, wait_until
from tests.support.queue import taken
from tests.support.reading import Objects, files, records

Versions = Sequence[Mapping[str, bytes]]
"""What each version of an artifact holds: bytes by path."""

#: Long enough for the next step of a program on a busy machine, short enough to wait for.
IDLE_S = 0.4


class Stage:
    """A machine whose daemon ends by itself soon after the last program.

    Args:
        root: a folder that is not there yet.
        place: where the first process that comes by is killed, or several with commas between them, each
            once; "" for nowhere.
        store: where versions go.
        env: more environment.
    """

    def __init__(
        self, root: Path, place: str, store: Place, env: Mapping[str, str] | None = None
    ) -> None:
        self._hits = root / "was-there"
        #: How many daemons the test itself has killed.
        self.kills = 0
        self.objects = store.objects
        kill = (
            {"WHERRY_FAILPOINT": place, "WHERRY_FAILPOINT_ONCE": str(self._hits)} if place else {}
        )
        self.machine = Machine(root, store.address, {**kill, **store.env, **(env or {})})
        self.home = self.machine.home
        self.home.mkdir(mode=0o700, parents=True)
        self.configure(f"idle_timeout_s = {IDLE_S}\n")

    @property
    def hits(self) -> set[str]:
        """The places where a process was killed."""
        try:
            return {*self._hits.read_text().split()}
        except FileNotFoundError:
            return set()

    def configure(self, text: str) -> None:
        """Write the home's ``config.toml``."""
        (self.home / "config.toml").write_text(text)

    def make_store(self) -> None:
        """Make the folder of the store."""
        Path(self.machine.store.removeprefix("file://")).mkdir(parents=True)

    def run(self, source: str, *args: str, env: Mapping[str, str] | None = None) -> str:
        """Run a program to its end; one that fails shows the daemon's log as well."""
        try:
            return self.machine.run(source, *args, env=env)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()}") from error

    def start(self, source: str, *args: str, env: Mapping[str, str] | None = None) -> Program:
        """Start a program."""
        return self.machine.start(source, *args, env=env)

    def log(self) -> str:
        """What the daemons said."""
        try:
            return (self.home / "daemon.log").read_text(errors="replace")
        except FileNotFoundError:
            return "(no daemon was started)"

    def kill_daemon(self) -> bool:
        """SIGKILL the daemon; False where none runs."""
        was_there = self.machine.kill_daemon()
        self.kills += was_there
        return was_there

    def settle(self) -> None:
        """Wait until the daemon has ended by itself; where it was killed, start the next one.

        One that a killed program has started may come late: it waits for its turn, and serves then.
        """
        for _ in range(3):
            wait_until(lambda: not (serves(self.home) or is_there_a_daemon(self.home)), 60)
            if (self.home / "daemon.lock").read_text() == "":
                return
            self.machine.wherry("daemon", "start")
        raise AssertionError(f"the daemon does not end by itself:\n{self.log()}")

    def check_taken(self, requests: int) -> None:
        """The queue has taken so many requests, each under one id."""
        found = taken(self.home)
        assert found == requests, f"{found} requests were taken\n{self.log()}"

    def check_clean(self, *, are_links_kept: bool = True) -> None:
        """Nothing is left in the home but what failed requests and held ones still need.

        Args:
            are_links_kept: whether what was linked is still the user's as well; else nothing on the disk
                tells it from what was copied, which alone is counted.
        """
        kept = [path for path in (self.home / "spool").rglob("*") if path.is_file()]
        needed = self._needed()
        lost = [
            path for path in kept if path.name != "lock" and not needed & {*path.parts, path.stem}
        ]
        assert not lost, f"left in the spool: {lost}"
        if are_links_kept:
            self._check_room(kept)
        assert not (self.home / "daemon.sock").exists(), "the socket is left"
        # With the bytes that a damaged queue may name, all sessions are kept.
        kept_all = needed or list(self.home.glob("queue.db.damaged-*"))
        assert kept_all or not list((self.home / "spool/sessions").iterdir()), "a session is left"
        said = self.log()
        died = said.count("event=ready") - said.count("event=ended")
        assert died <= self.kills + len(self.hits), f"a daemon died elsewhere:\n{said}"
        assert "Traceback" not in said, said

    def _check_room(self, kept: Sequence[Path]) -> None:
        """What the queue says that requests hold of the spool is what lies there, or in the queue."""
        with closing(sqlite3.connect(f"file:{self.home}/queue.db?mode=ro", uri=True)) as db:
            (counted,) = db.execute("SELECT sum(spooled_bytes), sum(spooled_files) FROM counts")
            requests = "SELECT sum(spooled_bytes), sum(spooled_files) FROM requests"
            assert tuple(counted) == tuple(value or 0 for value in db.execute(requests).fetchone())
            (in_queue,) = db.execute(
                "SELECT coalesce(sum(length(data)), 0) FROM entries"
            ).fetchone()
        if not list(self.home.glob("queue.db.damaged-*")):
            files = [path for path in kept if path.parent.parent.parent.name == "sessions"]
            own = [path.stat() for path in files if path.stat().st_nlink == 1]
            assert counted == (
                in_queue + sum(each.st_size for each in own),
                len(own) + len({*map(_folder, files)}),
            )

    def _needed(self) -> set[str]:
        """Names of folders and manifests that requests still need; all others' rows must be gone."""
        with closing(sqlite3.connect(f"file:{self.home}/queue.db?mode=ro", uri=True)) as db:
            found = db.execute("SELECT row, folder, state FROM requests").fetchall()
            rows = {row for (row,) in db.execute("SELECT DISTINCT row FROM entries")}
            uploads = db.execute(
                "SELECT number FROM uploads UNION ALL SELECT upload FROM sent_parts"
            ).fetchall()
        kept = {row: folder for row, folder, state in found if state in ("failed", "held")}
        going = [
            state for *_, state in found if state not in ("done", "cancelled", "failed", "held")
        ]
        assert not going, f"not done: {going}\n{self.log()}"
        assert not uploads, f"uploads in parts are left: {uploads}"
        assert rows <= kept.keys(), "entries of ended requests, or of none, are left in the queue"
        return {os.path.basename(folder) for folder in kept.values()} | {*map(str, kept)}


def _folder(path: Path) -> Path:
    return path.parent


def serves(home: Path) -> bool:
    """Whether a daemon holds the home: the kernel's lock is the truth."""
    try:
        lock = os.open(home / "daemon.lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def is_there_a_daemon(home: Path) -> bool:
    """Whether a process is a home's daemon, or is about to become it."""
    wanted = b"\0--home\0" + os.fsencode(home) + b"\0"
    for process in Path("/proc").glob("[0-9]*"):
        # It may end, or belong to somebody else, while it is looked at.
        with contextlib.suppress(OSError):
            if wanted in (process / "cmdline").read_bytes():
                return True
    return False


def check_versions(objects: Objects, expected: Mapping[str, Versions]) -> None:
    """Each artifact has these versions, in this order and no more, with these bytes."""
    for name, versions in expected.items():
        found = records(objects, "p", name)
        assert [record["metadata"]["n"] for record in found] == list(range(len(versions))), name
        for record, held in zip(found, versions, strict=True):
            assert dict(files(objects, "p", record)) == held, f"{name} v{record['version']}"


def check_aliases(objects: Objects, name: str, expected: Mapping[str, int | None]) -> None:
    """An artifact has these aliases at these versions (None: removed), and no others."""
    folder = f"p/artifacts/{name}/aliases/"
    keys = objects.keys(folder)
    found = {key: json.loads(objects.get(key))["version"] for key in keys}
    assert found == {f"{folder}{alias}.json": version for alias, version in expected.items()}
