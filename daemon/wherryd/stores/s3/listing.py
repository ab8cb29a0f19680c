"""Keys in order.

Owns: asking for pages (Amazon S3 API Reference, "ListObjectsV2"), and the order of whole keys on servers that
have another. Does not own: what the keys are for.

AWS lists by the bytes of whole keys. Servers that keep folders (SeaweedFS) walk them by their names: there
``a/x`` comes before ``a-b``, and after ``a-b`` it is not listed at all. So each level is asked for by itself:
one request a page, as without folders, where there are none below the prefix, and where there are, one more
for each. In a level both kinds of server differ only in where the name of a folder stands among those that
begin with it.

Who needs no order (``scan``) asks for whole keys at once: of ten thousand folders with an object each, ten
pages and not ten thousand. From page to page such a server goes on where it was, in its own order.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import AsyncGenerator, Mapping
from datetime import datetime
from xml.etree import ElementTree as ET

import msgspec

from wherry.errors import StoreUnfit
from wherryd.stores.base import ObjectStat
from wherryd.stores.s3.answers import Call, read_page
from wherryd.stores.s3.sender import Sender


class Item(msgspec.Struct, frozen=True):
    """An object, or a folder that has objects below it."""

    name: str  # the last segment
    stat: ObjectStat | None  # None: a folder

    @property
    def order(self) -> bytes:
        """Where it stands among the keys."""
        return self.name.encode() + b"/" * (self.stat is None)


class Listing:
    """Lists a bucket.

    Args:
        sender: of the bucket.
        page: objects in a page; None: as many as the server likes.
    """

    def __init__(self, sender: Sender, page: int | None = None) -> None:
        self._sender = sender
        self._page = page

    async def walk(self, prefix: str, start_after: str) -> AsyncGenerator[ObjectStat, None]:
        """The objects below ``prefix`` (empty, or with ``/`` at its end) after the key given."""
        after = start_after.encode()
        async for item in self.level(prefix, start_after):
            key = f"{prefix}{item.name}"
            if item.stat:
                if key.encode() > after:
                    yield item.stat
            elif f"{key}/".encode() > after or start_after.startswith(f"{key}/"):
                async for stat in self.walk(f"{key}/", start_after):
                    yield stat

    async def scan(self, prefix: str) -> AsyncGenerator[ObjectStat, None]:
        """The objects below ``prefix``, in the server's own order."""
        async for page in self._pages(prefix, {}):
            for item in page:
                if item.stat:
                    yield item.stat

    async def level(self, prefix: str, start_after: str = "") -> AsyncGenerator[Item, None]:
        """What is right below ``prefix``, in the order of the keys; some before ``start_after``, too."""
        waiting: list[Item] = []
        in_level = {"delimiter": "/"}
        if before := _before(prefix, start_after):
            in_level["start-after"] = self._sender.prefix + before
        async for page in self._pages(prefix, in_level):
            for item in page:
                insort(waiting, item, key=lambda known: known.order)
            # whatever comes has a name after all of this page's
            last = max((item.name.encode() for item in page), default=b"")
            while waiting and waiting[0].order <= last:
                yield waiting.pop(0)
        for item in waiting:
            yield item

    async def _pages(
        self, prefix: str, more: Mapping[str, str]
    ) -> AsyncGenerator[list[Item], None]:
        root = self._sender.prefix
        query = {"list-type": "2", "prefix": root + prefix, **more}
        query |= {"max-keys": str(self._page)} if self._page else {}
        while True:
            call = Call(method="GET", key=None, query=query)
            page = read_page(call, await self._sender.send(call), "ListBucketResult", "listing")
            yield [*_objects_in(page, root, prefix), *_folders_in(page, root + prefix)]
            if page.findtext("IsTruncated") != "true":
                return
            query["continuation-token"] = _token_of(call, page)


def _before(prefix: str, start_after: str) -> str:
    """A key at or before ``start_after`` from which a server of either kind leaves out nothing.

    A folder whose name is the beginning of ``start_after`` can hold later keys, as ``v1/x`` comes after
    ``v1.json``: this is the shortest such name, and as a listing leaves out what it starts after, cut by one.
    """
    rest = start_after.removeprefix(prefix)
    if not start_after.startswith(prefix):
        return ""
    name = rest.partition("/")[0]
    ends = (at for at in range(1, len(name)) if name[at] < "/")
    shortest = name[: next(ends, len(name)) - 1]
    return shortest and prefix + shortest


def _objects_in(page: ET.Element, root: str, prefix: str) -> list[Item]:
    """The objects of a page; names that end with a slash are folders that a console made."""
    stats = (_stat(element, root) for element in page.iterfind("Contents"))
    return [
        Item(name=stat.key.removeprefix(prefix), stat=stat)
        for stat in stats
        if stat.key and not stat.key.endswith("/")
    ]


def _stat(element: ET.Element, root: str) -> ObjectStat:
    key = element.findtext("Key", "")
    try:
        return ObjectStat(
            key=key.removeprefix(root),
            size=int(element.findtext("Size", "")),
            etag=_quoted(element.findtext("ETag", "")),
            modified=datetime.fromisoformat(element.findtext("LastModified", "")).timestamp(),
        )
    except ValueError as exc:
        raise StoreUnfit(f"The store lists {key!r} without its size or time: {exc}.") from exc


def _quoted(etag: str) -> str:
    """An ETag as headers have it; rclone lists it bare."""
    return etag if etag.endswith('"') else f'"{etag}"'


def _folders_in(page: ET.Element, prefix: str) -> list[Item]:
    found = (element.text or "" for element in page.iterfind("CommonPrefixes/Prefix"))
    return [Item(name=text.removeprefix(prefix)[:-1], stat=None) for text in found]


def _token_of(call: Call, page: ET.Element) -> str:
    """What asks for the next page. A listing is never cut short without a word."""
    token = page.findtext("NextContinuationToken", "")
    if not token:
        raise StoreUnfit(f"{call.what}: the store lists only the first page of more.")
    return token
