"""Files as bodies for a store: spool files, and the manifest's.

Owns: which file an entry's bytes lie in; whether a manifest has one. Does not own: sending, checking entries'
bytes (the store does, against their digest) or the manifest's (``registry.manifest_body``).
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence

import anyio.to_thread

from wherryd.model import Entry
from wherryd.queue.base import Queue, Request
from wherryd.registry.manifest_body import manifest_body
from wherryd.registry.small_manifest import FEW_ENTRIES, is_small, make_small
from wherryd.stores.base import FileBody, Ledger, PackBody, tell_nobody
from wherryd.stores.bodies import joined

ManifestOf = Callable[[Request], Awaitable[FileBody]]
"""Gives the body of a request's manifest."""


class Astray(Exception):
    """The manifest points at bytes that the store does not have, or not at those that it has by now, or is
    not what the entries come to: it has to be made again.
    """


def manifests_in(folder: str, queue: Queue) -> ManifestOf:
    """Make what gives manifests: small ones out of the entries in the queue, others from a folder, where
    they are ``<request row>.zst`` each.

    It raises as ``manifest_body``, and ``Astray``, where another Wherry has made a small one otherwise.
    """

    async def manifest_of(request: Request) -> FileBody:
        assert request.manifest is not None
        if request.entries <= FEW_ENTRIES:
            entries = await queue.entries(request.row, None, FEW_ENTRIES)
            if is_small(entries):
                return _small(entries, request.manifest)
        path = os.path.join(folder, f"{request.row}.zst")
        return await anyio.to_thread.run_sync(manifest_body, path, request.manifest)

    return manifest_of


def _small(entries: Sequence[Entry], manifest: str) -> FileBody:
    made, body = make_small(entries)
    if made.manifest != manifest:
        raise Astray(f"its entries come to {made.manifest}, and not to {manifest}")
    return body


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
