"""CRC32C, the checksum that Google Cloud Storage checks (RFC 3720 section 12.1).

Owns: making it, and writing it as Google does. Does not own: which bodies have one, and how it is kept
(``parts``).
"""

from __future__ import annotations

from base64 import b64encode

import google_crc32c


class Crc32c:
    """The checksum of what was given so far."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, piece: bytes | memoryview) -> None:
        """Take the next bytes. The library takes none that may change: those are copied."""
        self._value = google_crc32c.extend(self._value, bytes(piece))

    def digest(self) -> bytes:
        """The checksum: 4 bytes, as Google orders them."""
        return self._value.to_bytes(4)


def crc32c(body: bytes) -> bytes:
    """The checksum of some bytes."""
    made = Crc32c()
    made.update(body)
    return made.digest()


def written(digest: bytes) -> str:
    """As it stands in Google's answers."""
    return b64encode(digest).decode()
