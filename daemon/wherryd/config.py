"""What the daemon is told: its home's settings, and where things lie in it.

Owns: which settings concern the daemon. Does not own: reading them (``wherry.wire.settings``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from wherry.errors import BadSetting
from wherry.wire import places
from wherry.wire.address import normalize_store
from wherry.wire.settings import load
from wherryd.log import get_logger

_log = get_logger("config")

#: A big file's four parts under way, each with a connection and the file.
_FILES_PER_TRANSFER = 8


class Config(msgspec.Struct, frozen=True):
    """One daemon's settings; paths are absolute."""

    home: Path
    store: str  # address that counts where a client names none
    default_store: str  # the one that the daemon makes where it is missing
    max_transfers: int
    max_bandwidth: int | None  # bytes a second; None: no limit
    idle_timeout_s: float
    reference_timeout_s: float
    log_level: str
    spool_quota_bytes: int | None  # None: half of what is free
    spool_quota_inodes: int | None  # likewise
    spool_timeout_s: float
    cache_quota_bytes: int | None  # None: a quarter of what is free
    unknown: tuple[str, ...]  # names in config.toml that mean nothing to this version
    without_effect: tuple[str, ...] = ()  # settings that are set, and nothing heeds yet

    @property
    def spool(self) -> Path:
        """Where captured bytes wait."""
        return self.home / places.SPOOL

    @property
    def manifests(self) -> Path:
        """Where manifests wait."""
        return self.spool / "manifests"

    @property
    def cache(self) -> Path:
        """Where fetched objects stay."""
        return self.home / places.CACHE

    @property
    def lineage(self) -> Path:
        """Indexes of what was made of what, which may go at any time."""
        return self.home / places.LINEAGE

    @property
    def reserve(self) -> Path:
        """Room for a full disk."""
        return self.home / places.RESERVE

    @property
    def room(self) -> Path:
        """How full the spool is."""
        return self.home / places.ROOM

    @property
    def queue(self) -> Path:
        """The queue's database."""
        return self.home / places.QUEUE


def read_config(home: Path, environ: Mapping[str, str] | None = None) -> Config:
    """Read a home's settings. Raises ``BadSetting``, which names the place.

    Args:
        home: absolute.
        environ: the process's own by default.
    """
    settings = load({}, os.environ if environ is None else environ, home)
    return Config(
        home=home,
        store=settings.store,
        default_store=normalize_store(str(home / places.STORE), {}),
        max_transfers=settings.max_transfers,
        max_bandwidth=settings.max_bandwidth,
        idle_timeout_s=settings.idle_timeout_s,
        reference_timeout_s=settings.reference_timeout_s,
        log_level=settings.log_level,
        spool_quota_bytes=settings.spool_quota_bytes,
        spool_quota_inodes=settings.spool_quota_inodes,
        spool_timeout_s=settings.spool_timeout_s,
        cache_quota_bytes=settings.cache_quota_bytes,
        unknown=settings.unknown,
        without_effect=settings.without_effect,
    )


class ConfigFile:
    """Notices when somebody changes the home's ``config.toml`` while the daemon runs.

    Args:
        changed: is told of what counts from then on. Only what may change at any time is to be heeded.
    """

    def __init__(self, home: Path, changed: Callable[[Config], object]) -> None:
        self._home = home
        self._changed = changed
        self._seen = self._stamp()

    def look(self) -> None:
        """Look at the file; one that can't be used changes nothing, and is told of in the log. Blocks."""
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            config = read_config(self._home)
        except BadSetting as error:
            _log.warning("config.toml is not heeded", error=str(error))
            return
        _log.info(
            "config.toml has changed",
            max_bandwidth=config.max_bandwidth,
            spool_quota_bytes=config.spool_quota_bytes,
            spool_quota_inodes=config.spool_quota_inodes,
            spool_timeout_s=config.spool_timeout_s,
            cache_quota_bytes=config.cache_quota_bytes,
        )
        self._changed(config)

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            seen = os.stat(self._home / places.CONFIG)
        except OSError:
            return None
        return seen.st_ino, seen.st_size, seen.st_mtime_ns


def most_transfers(wanted: int, files: int) -> int:
    """How many transfers at once a process has files for: half of them, so that clients find some, too.

    Args:
        wanted: the setting.
        files: how many the process may have open.
    """
    return max(1, min(wanted, files // 2 // _FILES_PER_TRANSFER))
