"""New objects in one request: what describes them, and then their bytes (RFC 2387, multipart/related).

Owns: the request's body, with the CRC32C that the server checks; that no file's bytes arrive whole that are
not what the digest says. Does not own: what a condition means (``store``), files in parts (``resumable``).

The description comes first, so the CRC32C has to be known before the bytes leave: a file is read once for it,
and again as it is sent, when its last bytes are held back until the digest is the right one
(``stores.bodies.Checked``); without them the server has no object.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from wherryd.clock import Clock
from wherryd.stores.base import Body, FileBody, PackBody
from wherryd.stores.bodies import CHUNK_BYTES, Checked, read_piece
from wherryd.stores.crc32c import Crc32c, written
from wherryd.stores.gs.answers import Call

#: What answers tell of an object.
FIELDS = "name,size,generation,crc32c,timeCreated"


def make_crc32c(body: FileBody | PackBody) -> bytes:
    """Read a body for its CRC32C. Blocks. Raises ``FileChanged``, ``FileUnreadable``."""
    made = Crc32c()
    for offset in range(0, body.size, CHUNK_BYTES):
        made.update(read_piece(body, offset, min(CHUNK_BYTES, body.size - offset)))
    return made.digest()


def description(name: str, digest: bytes) -> dict[str, str]:
    """What the store is told of a new object.

    An object that anybody may read would by default be kept by caches for an hour, and read as it was.

    Args:
        name: whole.
        digest: the CRC32C of its bytes, which the server refuses to take others for.
    """
    return {"name": name, "crc32c": written(digest), "cacheControl": "no-store"}


def upload(
    prefix: str, key: str, body: Body, digest: bytes, condition: Mapping[str, str], clock: Clock
) -> Call:
    """Make the call that creates an object.

    Args:
        prefix: of all keys.
        digest: the body's CRC32C.
        condition: as a query.
        clock: names the boundary, which no body contains by chance.
    """
    boundary = clock.token()
    told = msgspec.json.encode(description(prefix + key, digest))
    before = (
        f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n".encode()
        + told
        + f"\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
    )
    after = f"\r\n--{boundary}--\r\n".encode()
    framed = before + body + after if isinstance(body, bytes) else _Framed(before, body, after)
    return Call(
        method="POST",
        key=key,
        query={"uploadType": "multipart", "fields": FIELDS, **condition},
        headers={"Content-Type": f"multipart/related; boundary={boundary}"},
        body=framed,
        is_upload=True,
    )


class _Framed:
    """A file's bytes, or a pack's, between what comes before and after them."""

    def __init__(self, before: bytes, body: FileBody | PackBody, after: bytes) -> None:
        self._before = before
        self._body = Checked(body)
        self._after = after

    @property
    def size(self) -> int:
        return len(self._before) + self._body.size + len(self._after)

    def told(self, left: int) -> None:
        self._body.told(max(0, min(left - len(self._before), self._body.size)))

    def read(self, offset: int, size: int) -> bytes:
        end = offset + size
        start, stop = len(self._before), len(self._before) + self._body.size
        first, last = max(offset, start), min(end, stop)
        piece = self._body.read(first - start, last - first) if first < last else b""
        after = self._after[max(0, offset - stop) : max(0, end - stop)]
        return self._before[offset:end] + piece + after
