"""From a store's address to the store.

Owns: which adapter serves which scheme. Does not own: wrappers (``retry``), which ``app`` puts around.
"""

from __future__ import annotations

import os
from contextlib import suppress

from anyio import to_thread

from wherry.errors import BadURI
from wherry.wire.address import split_store
from wherryd.clock import Clock
from wherryd.stores.base import ObjectStore
from wherryd.stores.credentials import CredentialSource
from wherryd.stores.folder import FolderStore
from wherryd.stores.folder.landing import sync_folder
from wherryd.stores.folder.problems import check_root, writing
from wherryd.stores.traffic import Traffic


def open_store(
    address: str,
    credentials: CredentialSource | None,
    clock: Clock,
    traffic: Traffic | None = None,
) -> ObjectStore:
    """Make the store at an address; nothing is looked at until the first verb.

    Args:
        address: normalized (``wherry.wire.address.normalize_store``).
        credentials: sets for this address; None: the daemon's own only.
        clock: for all that needs time or chance.
        traffic: what all requests to servers share; None: nothing is shared.

    Raises:
        BadURI: no adapter for the scheme.
    """
    parts = split_store(address)
    if parts.scheme == "file":
        return FolderStore(parts.path, clock)
    if parts.scheme == "s3":
        # takes a tenth of a second: botocore and aiohttp
        from wherryd.stores.s3 import S3Store

        return S3Store(address, credentials, clock, traffic=traffic)
    if parts.scheme == "gs":
        from wherryd.stores.gs.store import GsStore

        return GsStore(address, credentials, clock, traffic=traffic)
    raise BadURI(f"Wherry has no stores at {parts.scheme}://.", hint="Use file://, s3:// or gs://.")


async def make_folder(address: str) -> None:
    """Make the folder of a folder store, durably, where only its last part is missing.

    For the default store below the home; a folder that the user named is theirs to make, since it may be a
    disk that is not mounted. Nothing at another scheme.

    Raises:
        StoreMissing: the folder above it is not there.
        AccessRefused: it can't be made.
    """
    parts = split_store(address)
    if parts.scheme == "file":
        await to_thread.run_sync(_make_folder, parts.path)


def _make_folder(path: str) -> None:
    above = os.path.dirname(path)
    check_root(above)
    with writing(path, "making its folder"):
        with suppress(FileExistsError):
            os.mkdir(path)
        sync_folder(above)
