"""References to ``s3://``.

Owns: what of a URI is object or prefix, what a version records of an object, reading it back. Does not own:
which requests that takes (``s3_bucket``), whose credentials sign them (``stores.s3.sender``).

The digest is always the ETag: a listing gives nothing else, and an object has one digest whether it was
referenced by itself or through a prefix. Of one that is referenced by itself, what more its server knows is
recorded beside it (``sums``).

A bucket that is open to everybody is asked without a signature when there are no credentials, or none that it
takes. Who pays for a bucket of which the requester pays says so as GDAL's users do:
``AWS_REQUEST_PAYER=requester``, beside the credentials.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from functools import partial

import anyio

from wherry.errors import AccessRefused, ReferenceFailed
from wherry.wire.address import split_store
from wherry.wire.object_uri import ObjectURI, server_of, split_object
from wherry.wire.secrets import masked
from wherryd.clock import Clock
from wherryd.closing import closing
from wherryd.references.answers import check_same, check_size, size_of, without_first
from wherryd.references.base import Found, Page, Seen, Target
from wherryd.references.http import host_of
from wherryd.references.s3_bucket import PAGE, Bucket
from wherryd.references.s3_pages import Cursor, Item, digest_of
from wherryd.references.s3_refusals import Asked
from wherryd.references.session import ANSWER_S
from wherryd.stores.credentials import CredentialSets, CredentialSource, OrAnonymous
from wherryd.stores.http.transport import Response, arriving
from wherryd.stores.s3.answers import Answer

_PAYER = "AWS_REQUEST_PAYER"


class S3Resolver:
    """Finds out about objects in S3 buckets; see ``base.Resolver`` for what each method promises.

    Args:
        credentials: of the buckets, by their addresses.
        page: objects in a page of a listing.
    """

    def __init__(self, clock: Clock, credentials: CredentialSets, page: int = PAGE) -> None:
        self._clock = clock
        self._credentials = credentials
        self._page = page
        self._buckets: dict[str, Bucket] = {}

    def host(self, target: Target) -> str:
        address = split_store(_server_of(target))
        endpoint = address.options.get("endpoint_url")
        return host_of(endpoint) if endpoint else f"s3://{address.bucket}"

    async def look(self, target: Target) -> Found | None:
        parts, asked = split_object(target.uri), self._asked(target)
        if not parts.key or parts.key.endswith("/"):
            return None
        bucket = self._bucket(target)
        try:
            item = await bucket.find(parts.key, parts.version, asked, with_sums=True)
        except ReferenceFailed as error:
            # who may list the prefix alone is refused what may be its name
            is_refused = isinstance(error.__cause__, AccessRefused) and not parts.version
            if is_refused and await bucket.has_below(_prefix_of(parts), asked):
                return None
            raise
        if item is None:
            if parts.version:
                raise asked.missing()
            return None
        return _found(target.uri, parts.key.rpartition("/")[2], item)

    async def list(self, target: Target, after: str) -> Page:
        parts, asked = split_object(target.uri), self._asked(target)
        if parts.version:
            raise ReferenceFailed(f"{target.uri} pins a version of a prefix, which has none")
        prefix = _prefix_of(parts)
        items, cursor = await self._bucket(target).list_below(prefix, Cursor.read(after), asked)
        objects = [
            _found(_uri_of(parts, item.key), item.key.removeprefix(prefix), item) for item in items
        ]
        return Page(objects, None if cursor is None else str(cursor))

    async def check(self, seen: Seen) -> None:
        target = Target(seen.uri, seen.server)
        parts, asked = split_object(seen.uri), self._asked(target)
        version = seen.version or parts.version
        item = await self._bucket(target).find(parts.key, version, asked)
        if item is None:
            raise _gone(seen, version)
        check_same(seen, item.digest, item.size)

    async def open(self, seen: Seen, start: int = 0) -> AsyncIterator[bytes]:
        target = Target(seen.uri, seen.server)
        parts, asked, count = split_object(seen.uri), self._asked(target), start
        version = seen.version or parts.version
        with asked.translated():
            async with self._bucket(target).open(parts.key, version, start) as answer:
                if answer.code in ("NoSuchKey", "NoSuchVersion", "MethodNotAllowed"):
                    raise _gone(seen, version)
                if answer.response is None:
                    raise asked.refusal(answer, self._clock.now())
                _check(seen, answer)
                chunks = _chunks(answer.response)
                async for chunk in without_first(start, answer.headers, chunks):
                    count += len(chunk)
                    yield chunk
        check_size(seen, count)

    async def aclose(self) -> None:
        buckets, self._buckets = self._buckets, {}
        for bucket in buckets.values():
            await bucket.aclose()

    def _asked(self, target: Target) -> Asked:
        return Asked(masked(target.uri), self.host(target))

    def _bucket(self, target: Target) -> Bucket:
        server = _server_of(target)
        if server not in self._buckets:
            source = self._credentials.source(server)
            headers = partial(_headers_for, source)
            self._buckets[server] = Bucket(
                server, OrAnonymous(source), self._clock, headers, self._page
            )
        return self._buckets[server]


def _server_of(target: Target) -> str:
    return target.server or server_of(target.uri, {})


def _prefix_of(parts: ObjectURI) -> str:
    return parts.key if not parts.key or parts.key.endswith("/") else f"{parts.key}/"


def _uri_of(parts: ObjectURI, key: str) -> str:
    uri = parts.of(key)
    if "?" in key and split_object(uri).key != key:
        raise ReferenceFailed(f"no URI leads to the key {key!r}: its end reads as an option")
    return uri


def _found(uri: str, path: str, item: Item) -> Found:
    return Found(uri, path, item.digest, item.size, item.version, item.sums)


def _headers_for(source: CredentialSource) -> Mapping[str, str]:
    """What says that the requester pays, where one whose credentials may be used says so."""
    values = (os.environ if each.values is None else each.values for each in source.in_order())
    pays = any(each.get(_PAYER) == "requester" for each in values)
    return {"x-amz-request-payer": "requester"} if pays else {}


def _check(seen: Seen, answer: Answer) -> None:
    check_same(seen, digest_of(answer.headers.get("ETag", "")), size_of(answer.headers))


def _gone(seen: Seen, version: str | None) -> ReferenceFailed:
    what = f"the version {version} of {seen.uri}" if version else seen.uri
    return ReferenceFailed(
        f"{what} was there when it was logged, and is gone",
        hint="Whoever rules the bucket may have it still; a bucket that keeps versions keeps it for sure.",
    )


async def _chunks(response: Response) -> AsyncIterator[bytes]:
    async with closing(arriving(response)) as pieces:
        while True:
            with anyio.fail_after(ANSWER_S):
                piece = await anext(pieces, b"")
            if not piece:
                return
            yield piece
