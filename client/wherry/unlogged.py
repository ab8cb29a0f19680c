"""Files of an artifact that is built from a version, before it is logged.

Owns: what comes from where. Does not own: either way of it (``download``, ``listings``).
"""

from __future__ import annotations

from collections.abc import Sequence

from wherry import bases, download, held, listings
from wherry.compared import write_hashed
from wherry.contents import Contents
from wherry.safe_root import SafeRoot


def write(
    contents: Contents,
    root: str,
    paths: Sequence[str],
    *,
    allow_missing: bool = False,
    skip_cache: bool = False,
) -> None:
    """Write entries as files below ``root``; raises as ``download.download``, ``listings.entry_bytes``."""
    stays = bases.kept(contents.table, paths)
    if contents.base is not None and contents.base.stored is not None:
        stored = contents.base.stored
        download.download(stored, root, stays, allow_missing=allow_missing, skip_cache=skip_cache)
    own = set(paths).difference(stays)
    with SafeRoot(root) as target:
        for path in (path for path in paths if path in own):
            with target.create(path) as opened:
                write_hashed(path, listings.entry_bytes(contents, path), opened)


def hold(contents: Contents, paths: Sequence[str]) -> list[held.Held]:
    """Bring entries' bytes here, in their order, into no folder of the user's; raises as ``write``."""
    stays = bases.kept(contents.table, paths)
    there: dict[str, held.Held] = {}
    if stays and contents.base is not None and contents.base.stored is not None:
        there = dict(zip(stays, held.fetch(contents.base.stored, stays), strict=True))
    return [
        there[path] if path in there else held.keep(listings.entry_bytes(contents, path))
        for path in paths
    ]
