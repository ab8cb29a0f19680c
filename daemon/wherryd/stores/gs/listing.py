"""Keys in order.

Owns: asking for pages (Cloud Storage JSON API, "Objects: list"). Does not own: what the keys are for.

The server lists by the bytes of whole names, from any of them on.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from wherry.errors import StoreUnfit
from wherryd.stores.base import ObjectStat
from wherryd.stores.gs.answers import Call, read
from wherryd.stores.gs.bodies import FIELDS
from wherryd.stores.gs.resources import Listed, Resource
from wherryd.stores.gs.sender import Sender

_FIELDS = f"nextPageToken,prefixes,items({FIELDS})"


class Listing:
    """Lists a bucket.

    Args:
        sender: of the bucket.
        page: objects in a page; None: as many as the server likes.
    """

    def __init__(self, sender: Sender, page: int | None = None) -> None:
        self._sender = sender
        self._page = {"maxResults": str(page)} if page else {}

    async def walk(self, prefix: str, start_after: str) -> AsyncGenerator[ObjectStat, None]:
        """The objects below ``prefix`` (empty, or with ``/`` at its end) after the key given."""
        root = self._sender.prefix
        start = {"startOffset": root + start_after} if start_after else {}
        async for page in self._pages(prefix, start):
            for item in page.items:
                stat = stat_of(item, item.name.removeprefix(root))
                # names that end with a slash are folders that a console made
                if stat.key != start_after and not stat.key.endswith("/"):
                    yield stat

    async def folders(self, prefix: str) -> AsyncGenerator[str, None]:
        """The names of the next segments below ``prefix`` that have objects below them."""
        start = len(self._sender.prefix) + len(prefix)
        given = ""
        async for page in self._pages(prefix, {"delimiter": "/"}):
            for name in sorted(page.prefixes, key=str.encode):
                if name.encode() > given.encode():
                    given = name
                    yield name[start:-1]

    async def _pages(self, prefix: str, more: dict[str, str]) -> AsyncGenerator[Listed, None]:
        query = {"prefix": self._sender.prefix + prefix, "fields": _FIELDS, **self._page, **more}
        while True:
            call = Call(method="GET", key=None, query=query)
            page = read(call, await self._sender.send(call), Listed)
            yield page
            if not page.next_page_token:
                return
            if page.next_page_token == query.get("pageToken"):
                raise StoreUnfit(f"{call.what}: the store lists only the first page of more.")
            query = {**query, "pageToken": page.next_page_token}


def stat_of(resource: Resource, key: str) -> ObjectStat:
    """What a store says of an object, out of what this one says."""
    created = resource.time_created
    if created is None:
        raise StoreUnfit(f"The store describes {key!r} without its time.")
    return ObjectStat(
        key=key, size=int(resource.size), etag=resource.generation, modified=created.timestamp()
    )
