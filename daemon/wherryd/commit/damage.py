"""Whether a manifest that could not be read is damaged in the store that counts.

Owns: looking again. Does not own: what follows where it is (``gathering``, ``applying``).

A stream tells nothing of the store that it came from: another may have lain at the address for a moment, an
empty mount point say. To end a request for that would be wrong for ever; to wait is not.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from wherry.errors import StoreDamaged, StoreUnavailable
from wherryd.model import ManifestEntry
from wherryd.registry.base import Kind, Named, ObjectGone, Registry


async def read_surely(
    registry: Registry, project: str, manifest: str, store_id: str
) -> AsyncGenerator[ManifestEntry, None]:
    """A manifest's entries, as ``Registry.open_manifest`` gives them.

    Raises:
        StoreDamaged: it is gone from the store ``store_id``, or is not what its name says, twice.
        StoreUnavailable: it could not be read, and can be now.
        Exchanged: another store is there.
    """
    try:
        async with aclosing(registry.open_manifest(project, manifest)) as entries:
            async for entry in entries:
                yield entry
    except StoreDamaged as error:
        if await _is_damaged(registry, project, manifest, store_id):
            raise
        raise StoreUnavailable(f"{error.message}; a moment later it is not") from error


async def _is_damaged(registry: Registry, project: str, manifest: str, store_id: str) -> bool:
    named = [Named(Kind.MANIFEST, manifest)]
    if await registry.lost(project, named, store_id):
        return True
    try:
        async with aclosing(registry.open_manifest(project, manifest)) as entries:
            async for _ in entries:
                pass
    except ObjectGone:
        return bool(await registry.lost(project, named, store_id))
    except StoreDamaged:
        await registry.check_identity(store_id)
        return True
    return False
