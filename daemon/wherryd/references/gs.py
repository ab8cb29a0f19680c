"""References to ``gs://``.

Owns: what of a URI is object or prefix, what a version records of an object, reading it back. Does not own:
requests and credentials (``gs_bucket``).

The digest is the CRC32C: every object has one. Composite objects have no MD5; that of others is recorded
beside it. The generation is recorded in any bucket; where it is gone, and the object is the same by digest
and size, that counts as unchanged.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from wherry.errors import ReferenceFailed, ReferenceUnavailable
from wherry.wire.address import split_store
from wherry.wire.object_uri import ObjectURI, server_of, split_object
from wherry.wire.secrets import masked
from wherryd.clock import Clock
from wherryd.references.answers import check_same, check_size, without_first
from wherryd.references.base import Found, Page, Seen, Target
from wherryd.references.gs_answers import Item, Listed
from wherryd.references.gs_bucket import Asked, GoogleBucket
from wherryd.references.http import host_of
from wherryd.references.session import Session
from wherryd.stores.credentials import CredentialSets

PAGE = 1000
_CHUNK_BYTES = 1 << 20


class _Cursor(msgspec.Struct, frozen=True, array_like=True):
    last: str = ""  # name of the last object that was given
    token: str = ""


class GsResolver:
    """Finds out about objects in GCS buckets; see ``base.Resolver`` for what each method promises.

    Args:
        credentials: of the buckets, by their addresses.
        session: whose connections are used.
        page: objects in a page of a listing.
    """

    def __init__(
        self, clock: Clock, credentials: CredentialSets, session: Session, page: int = PAGE
    ) -> None:
        self._clock = clock
        self._credentials = credentials
        self._session = session
        self._page = page
        self._buckets: dict[str, GoogleBucket] = {}

    def host(self, target: Target) -> str:
        address = split_store(_server_of(target))
        endpoint = address.options.get("endpoint_url")
        return host_of(endpoint) if endpoint else f"gs://{address.bucket}"

    async def look(self, target: Target) -> Found | None:
        parts = split_object(target.uri)
        if not parts.key or parts.key.endswith("/"):
            return None
        item = await self._bucket(target).find(parts.key, parts.version, self._asked(target))
        if item is None:
            if parts.version:
                raise ReferenceFailed(
                    f"{masked(target.uri)} is not there",
                    hint="Look whether name and generation are right.",
                )
            return None
        return _found(target.uri, parts.key.rpartition("/")[2], item)

    async def list(self, target: Target, after: str) -> Page:
        parts = split_object(target.uri)
        if parts.version:
            raise ReferenceFailed(f"{masked(target.uri)} pins a generation of a prefix")
        prefix = parts.key if not parts.key or parts.key.endswith("/") else f"{parts.key}/"
        cursor = msgspec.json.decode(after, type=_Cursor) if after else _Cursor()
        page = await self._page_of(target, prefix, cursor)
        items = [item for item in page.items if not item.is_marker and item.name != cursor.last]
        objects = [
            _found(_uri_of(parts, item.name), item.name.removeprefix(prefix), item)
            for item in items
        ]
        if not page.next_page_token:
            return Page(objects, None)
        last = page.items[-1].name if page.items else cursor.last
        return Page(objects, msgspec.json.encode(_Cursor(last, page.next_page_token)).decode())

    async def check(self, seen: Seen) -> None:
        await self._current(seen)

    async def open(self, seen: Seen, start: int = 0) -> AsyncIterator[bytes]:
        target, parts, count = Target(seen.uri, seen.server), split_object(seen.uri), start
        generation = await self._current(seen)
        asked = self._asked(target)
        async with self._bucket(target).open(parts.key, generation, asked, start) as response:
            if response.status == 404:
                raise ReferenceUnavailable(
                    f"{masked(seen.uri)} went while it was read", host=asked.host
                )
            chunks = response.content.iter_chunked(_CHUNK_BYTES)
            async for chunk in without_first(start, response.headers, chunks):
                count += len(chunk)
                yield chunk
        check_size(seen, count)

    async def aclose(self) -> None:
        buckets, self._buckets = self._buckets, {}
        for bucket in buckets.values():
            await bucket.aclose()
        await self._session.aclose()

    async def _page_of(self, target: Target, prefix: str, cursor: _Cursor) -> Listed:
        bucket, asked = self._bucket(target), self._asked(target)
        most = {"maxResults": str(self._page)}
        if not cursor.token:
            return await bucket.list_below(prefix, most, asked)
        try:
            return await bucket.list_below(prefix, {**most, "pageToken": cursor.token}, asked)
        except ReferenceFailed:
            # The token may be too old. Names come in the order of their bytes; the first is the last one.
            return await bucket.list_below(prefix, {**most, "startOffset": cursor.last}, asked)

    async def _current(self, seen: Seen) -> str:
        """The generation in which the server has what was seen; raises ``ReferenceFailed``."""
        target, parts = Target(seen.uri, seen.server), split_object(seen.uri)
        bucket, asked = self._bucket(target), self._asked(target)
        generation = seen.version or parts.version
        item = await bucket.find(parts.key, generation, asked)
        if item is None and generation and not parts.version:
            item = await bucket.find(parts.key, None, asked)
        if item is None:
            raise ReferenceFailed(
                f"{masked(seen.uri)} was there when it was logged, and is gone",
                hint="A bucket with object versioning or soft delete may have it still.",
            )
        check_same(seen, item.digest, int(item.size))
        return item.generation

    def _asked(self, target: Target) -> Asked:
        return Asked(masked(target.uri), self.host(target))

    def _bucket(self, target: Target) -> GoogleBucket:
        server = _server_of(target)
        if server not in self._buckets:
            source = self._credentials.source(server)
            self._buckets[server] = GoogleBucket(
                split_store(server), source, self._session, self._clock
            )
        return self._buckets[server]


def _server_of(target: Target) -> str:
    return target.server or server_of(target.uri, {})


def _uri_of(parts: ObjectURI, key: str) -> str:
    uri = parts.of(key)
    if "#" in key and split_object(uri).key != key:
        raise ReferenceFailed(f"no URI leads to {key!r}: its end reads as a generation")
    return uri


def _found(uri: str, path: str, item: Item) -> Found:
    return Found(uri, path, item.digest, int(item.size), item.generation, item.sums)
