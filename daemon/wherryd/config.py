"""What the daemon is told: its home's settings, and where things lie in it.

Owns: which settings concern the daemon. Does not own: reading them (``wherry.wire.settings``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from wherry.wire import places
from wherry.wire.address import normalize_store
from wherry.wire.settings import load

#: A big file's four parts under way, each with a connection and the file.
_FILES_PER_TRANSFER = 8


class Config(msgspec.Struct, frozen=True):
    """One daemon's settings; paths are absolute."""

    home: Path
    store: str  # address that counts where a client names none
    default_store: str  # the one that the daemon makes where it is missing
    max_transfers: int
    idle_timeout_s: float
    reference_timeout_s: float
    log_level: str
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
    def reserve(self) -> Path:
        """Room for a full disk."""
        return self.home / places.RESERVE

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
        idle_timeout_s=settings.idle_timeout_s,
        reference_timeout_s=settings.reference_timeout_s,
        log_level=settings.log_level,
        unknown=settings.unknown,
        without_effect=settings.without_effect,
    )


def most_transfers(wanted: int, files: int) -> int:
    """How many transfers at once a process has files for: half of them, so that clients find some, too.

    Args:
        wanted: the setting.
        files: how many the process may have open.
    """
    return max(1, min(wanted, files // 2 // _FILES_PER_TRANSFER))
