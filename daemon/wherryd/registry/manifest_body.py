"""A manifest's file as a body for a store.

Owns: that the manifest which is sent is the one that was made. Does not own: making it (``manifest``).
"""

from __future__ import annotations

import hashlib

import zstandard

from wherry.errors import FileChanged, FileMissing
from wherryd.stores.base import FileBody

_READ_BYTES = 1 << 18
_WINDOW_BYTES = 8 << 20


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
