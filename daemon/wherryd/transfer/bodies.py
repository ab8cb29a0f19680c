"""Files as bodies for a store: spool files, and the manifest's.

Owns: that the manifest which is sent is the one that was made. Does not own: sending, or checking
entries' bytes (the store does, against their digest).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable, Sequence

import anyio.to_thread
import zstandard

from wherry.errors import FileChanged, FileMissing
from wherryd.model import Entry
from wherryd.queue.base import Request
from wherryd.stores.base import FileBody, Ledger, PackBody, tell_nobody
from wherryd.stores.bodies import joined

_READ_BYTES = 1 << 18
_WINDOW_BYTES = 8 << 20


ManifestOf = Callable[[Request], Awaitable[FileBody]]
"""Gives the body of a request's manifest."""


def manifests_in(folder: str) -> ManifestOf:
    """Make what gives manifests that lie in a folder, ``<request row>.zst`` each.

    It raises as ``manifest_body``.
    """

    async def manifest_of(request: Request) -> FileBody:
        assert request.manifest is not None
        path = os.path.join(folder, f"{request.row}.zst")
        return await anyio.to_thread.run_sync(manifest_body, path, request.manifest)

    return manifest_of


def entry_body(
    entry: Entry, told: Callable[[int], None] = tell_nobody, ledger: Ledger | None = None
) -> FileBody:
    """Make the body of an entry whose digest is known and that is no reference.

    Args:
        entry: names the file, or has the bytes.
        told: how many bytes have left; see ``FileBody``.
        ledger: of a body that may go in parts.
    """
    assert entry.source is not None and entry.digest is not None, entry
    sha256 = bytes.fromhex(entry.digest.removeprefix("sha256:"))
    source = entry.source
    return FileBody(source.file, source.offset, entry.size, sha256, told, ledger, source.data)


def pack_body(
    entries: Sequence[Entry], size: int, pack: str, told: Callable[[int], None]
) -> PackBody:
    """Make the body of a pack.

    Args:
        entries: whose bytes it holds, back to back.
        size: bytes of all of them.
        pack: its name, ``<hex>``.
        told: how many bytes have left; see ``FileBody``.
    """
    files = tuple(entry_body(entry) for entry in entries)
    return PackBody(files, size, bytes.fromhex(pack), told, joined(files))


def manifest_body(path: str, manifest: str) -> FileBody:
    """Make the body of a manifest's file, and look whether it is the one that was made. Blocks.

    Args:
        path: the file in the spool.
        manifest: ``sha256:<hex>`` of the plain bytes.

    Raises:
        FileMissing, FileChanged: it is gone or damaged.
    """
    packed, plain, size = hashlib.sha256(), hashlib.sha256(), 0
    unpack = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES).decompressobj()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_READ_BYTES):
                size += len(chunk)
                packed.update(chunk)
                plain.update(unpack.decompress(chunk))
    except FileNotFoundError as exc:
        raise FileMissing(f"{path} is gone, and the manifest was not sent yet") from exc
    except (OSError, zstandard.ZstdError) as exc:
        raise FileChanged(f"the manifest in {path} can't be read: {exc}") from exc
    if f"sha256:{plain.hexdigest()}" != manifest:
        raise FileChanged(f"{path} is not the manifest that was made ({manifest})")
    return FileBody(path, 0, size, packed.digest())
