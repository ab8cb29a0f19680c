"""The looks that ``wherry doctor`` takes, each of which may find problems.

Owns: what is wrong, and its remedy. Does not own: how it is printed (``doctor``). A look that fails is
itself a finding, and no other look is left out for it, but those that need what it could not find.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from wherry import messages as pb
from wherry.cli.calls import Daemon
from wherry.cli.disk import Disk, look_at
from wherry.cli.states import counts_text, is_waiting, shown_counts
from wherry.cli.words import count_text, first_line
from wherry.errors import DaemonMissing, DaemonNotStarted, WherryError
from wherry.progress import size_text
from wherry.wire import VERSION, places
from wherry.wire.address import has_single_writer
from wherry.wire.settings import FILE_ONLY, IN_ENVIRONMENT, WITHOUT_EFFECT, Settings, load

_LEAST_FREE_BYTES = 1 << 30
_LEAST_FREE_INODES = 10_000
_STORE_TIMEOUT_S = 30.0
_PACKAGES = (
    "protobuf",
    "h2",
    "rich",
    "grpcio",
    "aiohttp",
    "aiobotocore",
    "gcloud-aio-auth",
    "aiosqlite",
)
_NOT_SETTINGS = frozenset({"home", "sources", "unknown"})
_OTHER_VARIABLES = frozenset(
    {"WHERRY_HOME", "WHERRY_FAILPOINT", "WHERRY_FAILPOINT_ONCE", "WHERRY_SOAK"}
)


class Problem(NamedTuple):
    """Something that is wrong."""

    what: str
    remedy: str  # "" where there is none to name


class Setting(NamedTuple):
    """One setting's value, None where it has none, and where it came from."""

    name: str
    value: object
    source: str
    has_effect: bool = True  # else it is read, and nothing heeds it yet


class Store(NamedTuple):
    """Whether the store answers."""

    address: str
    readable: bool
    error: str | None


class Report:
    """What the looks found; None and empty where they could not look."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.advice: list[str] = []
        self.settings: list[Setting] = []
        self.versions: dict[str, str] = {}
        self.home: Path | None = None
        self.disk: Disk | None = None
        self.daemon: pb.HelloReply | None = None
        self.is_deaf = False  # somebody listens at the socket, and says nothing
        self.store: Store | None = None

    def add(self, error: WherryError) -> None:
        """Take an error as a problem."""
        self.problems.append(Problem(error.message, error.hint or ""))


def examine(store: str | None) -> Report:
    """Take all looks.

    Args:
        store: another store than the settings' to look at.
    """
    report = Report()
    report.versions = dict(_versions())
    report.problems += unknown_variables(os.environ)
    try:
        report.home = places.home()
        chosen = load({"store": store}, os.environ, report.home)
    except WherryError as error:
        report.add(error)
    else:
        _look_at_settings(report, chosen)
        report.advice += store_advice(chosen.store)
        _look_at_daemon(report, Daemon(chosen), chosen)
    if report.home is not None:
        _look_at_disk(report, report.home)
    return report


def unknown_variables(environ: Mapping[str, str]) -> list[Problem]:
    """Find variables that look like settings and are none, such as a misspelt one."""
    in_file = {f"WHERRY_{name.upper()}": name for name in FILE_ONLY}
    known = {f"WHERRY_{name.upper()}" for name in IN_ENVIRONMENT} | _OTHER_VARIABLES
    problems = []
    for name in sorted(environ):
        if name in in_file:
            line = f"{in_file[name]} = …"
            what = f"{name} is set, and has no effect: it is read from {places.CONFIG} only."
            problems.append(Problem(what, f"Write there: {line}"))
        elif name.startswith("WHERRY_") and name not in known:
            what = f"{name} is set, and is no setting."
            problems.append(Problem(what, "Unset it, or correct its name."))
    return problems


def store_advice(address: str) -> Iterator[str]:
    """Advise on what no look shows: reading a bucket's lifecycle needs a right that Wherry never asks for."""
    if address.startswith("s3://"):
        yield (
            "The bucket should have a lifecycle rule that aborts incomplete multipart uploads "
            "(AbortIncompleteMultipartUpload), after 7 days say: what a killed upload has sent costs money "
            "until then. Whether it has one was not looked at."
        )
    if has_single_writer(address):
        yield (
            "By commit=single-writer you promise that this home alone writes to the store. Where the server needs "
            "that, the object wherry-writer.json names the home that does."
        )


def disk_problems(home: Path, disk: Disk) -> Iterator[Problem]:
    """Find what is wrong with the disk below the home."""
    if disk.is_network:
        yield Problem(
            f"The home {home} is on {disk.filesystem}, where the queue's database is not safe.",
            "Set WHERRY_HOME to a folder on a local disk.",
        )
    if disk.free_bytes < _LEAST_FREE_BYTES:
        yield Problem(
            f"The disk of the home {home} has {size_text(disk.free_bytes)} left.",
            "Free space there, or set WHERRY_HOME to a folder on a larger disk.",
        )
    if disk.free_inodes is not None and disk.free_inodes < _LEAST_FREE_INODES:
        yield Problem(
            f"The disk of the home {home} has room for {disk.free_inodes:,} files only.",
            "Remove files there, or set WHERRY_HOME to a folder on another disk.",
        )


def work_problems(status: pb.StatusReply) -> Iterator[Problem]:
    """Find what is wrong with the queue's work."""
    if status.locked:
        what, _, remedy = status.locked.partition("\n")
        yield Problem(f"Nothing can be logged now: {what}", remedy.strip())
    for file in status.set_aside:
        yield Problem(
            f"A damaged queue was set aside as {file}; requests that were in it are not done.",
            "`wherry status` says more.",
        )
    if status.stopped:
        lanes = count_text(len(status.stopped), "artifact stands", "artifacts stand")
        yield Problem(
            f"{lanes} still: {first_line(status.stopped[0].reason)}", "`wherry status` says more."
        )
    failed = [state for state in status.requests if state.state == "failed"]
    if failed:
        yield Problem(
            f"{count_text(len(failed), 'request')} failed: {first_line(failed[0].reason)}",
            "`wherry status` names them; then `wherry retry` or `wherry acknowledge`.",
        )
    waiting = [state for state in status.requests if is_waiting(state)]
    if waiting:
        first = waiting[0]
        wait = count_text(len(waiting), "request waits", "requests wait")
        yield Problem(
            f"{wait} ({first.error}): {first_line(first.reason)}",
            f"`wherry status` says more; in all: {counts_text(shown_counts(status))}.",
        )


def _versions() -> Iterator[tuple[str, str]]:
    from importlib.metadata import PackageNotFoundError, version

    yield "wherry", VERSION
    yield "python", platform.python_version()
    yield "system", platform.platform()
    for name in _PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, "not installed here"


def _look_at_settings(report: Report, chosen: Settings) -> None:
    home_source = "WHERRY_HOME" if os.environ.get("WHERRY_HOME") else "default"
    report.settings.append(Setting("home", str(chosen.home), home_source))
    for name, value in chosen._asdict().items():
        if name not in _NOT_SETTINGS:
            source, has_effect = chosen.sources.get(name, "default"), name not in WITHOUT_EFFECT
            report.settings.append(Setting(name, value, source, has_effect))
    report.problems += [
        Problem(
            f"{chosen.home / places.CONFIG} has the name {name!r}, which is no setting.",
            "Correct it, or remove it.",
        )
        for name in chosen.unknown
    ]


def _look_at_daemon(report: Report, daemon: Daemon, chosen: Settings) -> None:
    try:
        report.daemon = daemon.start()
        report.problems += work_problems(daemon.status())
    except WherryError as error:
        report.add(error)
        none_runs = isinstance(error, DaemonMissing | DaemonNotStarted)
        report.is_deaf = report.daemon is None and not none_runs
        return
    if report.daemon.version != VERSION:
        report.problems.append(
            Problem(
                f"The daemon is wherry {report.daemon.version}, the command line {VERSION}.",
                "Upgrade the older one; `wherry daemon stop` lets the next one start.",
            )
        )
    _look_at_store(report, daemon, chosen.store)


def _look_at_store(report: Report, daemon: Daemon, address: str) -> None:
    """Writing shows at the first commit; a store must not get objects from a mere look."""
    try:
        next(daemon.artifacts(timeout_s=_STORE_TIMEOUT_S), None)
    except WherryError as error:
        report.store = Store(address, readable=False, error=error.message)
        report.add(error)
    else:
        report.store = Store(address, readable=True, error=None)


def _look_at_disk(report: Report, home: Path) -> None:
    try:
        report.disk = look_at(home)
    except OSError as error:
        report.problems.append(Problem(f"{home} can't be looked at: {error.strerror}.", ""))
    else:
        report.problems += disk_problems(home, report.disk)
