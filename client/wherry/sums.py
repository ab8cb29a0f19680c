"""Whether bytes are those of the checksums that a server gave. No I/O.

Owns: which algorithms are checked: those of Python's own libraries. Does not own: which ones are recorded
(the daemon), what is done about other bytes (``fetching``).

A CRC-32C or a CRC-64/NVME in plain Python would take longer than the download, and the client needs no
compiled package: those are recorded for others.
"""

from __future__ import annotations

import hashlib
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterable
from typing import Protocol


class _Hash(Protocol):
    def update(self, data: bytes, /) -> object: ...

    def hexdigest(self) -> str: ...


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def hexdigest(self) -> str:
        """In base64, as S3 writes it."""
        return b64encode(self._value.to_bytes(4, "big")).decode()


_KNOWN: dict[str, Callable[[], _Hash]] = {
    "crc32": _Crc32,
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256,
    "sha512": hashlib.sha512,
}


class Sums:
    """The checksums of bytes as they come.

    Args:
        recorded: ``<algorithm>:<value>`` each, as a manifest has them.
    """

    def __init__(self, recorded: Iterable[str]) -> None:
        parts = (each.partition(":") for each in recorded)
        self._made = [(name, value, _KNOWN[name]()) for name, _, value in parts if name in _KNOWN]

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        for _, _, made in self._made:
            made.update(data)

    def difference(self) -> str | None:
        """Name the first checksum that all the bytes do not have; None where they have those known here."""
        for name, value, made in self._made:
            if made.hexdigest() != value:
                return f"its {name} was {value} and is {made.hexdigest()}"
        return None
