"""One S3 bucket's questions for references.

Owns: which requests an answer takes: heads, listings with versions. Does not own: what a head takes
(``s3_head``), URIs and what is made of the answers (``s3``), credentials, regions and signatures
(``stores.s3.sender``).

Keys come from ListObjectsV2, which every server gives completely. Where the bucket keeps versions, their ids
come from ListObjectVersions over the same stretch of keys: one request more for a thousand objects. It can't
be left to that alone: servers that keep folders were seen to leave objects out at the end of a page
(SeaweedFS 4.48: ``a/x``, where the page ends with ``a.b``), and a key with a hundred thousand old versions
takes a hundred pages. So after a page that brought little the objects that are left are asked for one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial

import anyio
import msgspec

from wherry.errors import AccessRefused, ReferenceFailed
from wherryd.clock import Clock
from wherryd.references.s3_head import head, item_of
from wherryd.references.s3_pages import (
    Cursor,
    Item,
    NoListing,
    Objects,
    Versions,
    read_objects,
    read_versions,
)
from wherryd.references.s3_refusals import Asked
from wherryd.stores.credentials import CredentialSource
from wherryd.stores.s3.answers import Answer, Call
from wherryd.stores.s3.sender import Sender
from wherryd.together import all_of

PAGE = 1000
#: A page of versions that told of fewer objects was the last that is asked for.
_WORTH = 16
#: Objects that are asked for one by one, at once.
_AT_ONCE = 32


class Bucket:
    """A bucket at an address.

    Args:
        address: normalized, without a prefix.
        credentials: its sets.
        headers: gives those of every request.
        page: objects in a page of a listing.
    """

    def __init__(
        self,
        address: str,
        credentials: CredentialSource,
        clock: Clock,
        headers: Callable[[], Mapping[str, str]],
        page: int = PAGE,
    ) -> None:
        self._sender = Sender(address, credentials, clock)
        self._clock = clock
        self._headers = headers
        self._page = page
        self._keeps_versions: bool | None = None  # None: nobody knows yet

    async def find(
        self, key: str, version: str | None, asked: Asked, *, with_sums: bool = False
    ) -> Item | None:
        """Ask about one object; None where there is none.

        Args:
            with_sums: ask for its further checksums as well.

        Raises ``ReferenceFailed``, ``ReferenceUnavailable``.
        """
        with asked.translated():
            call = self._object_call("HEAD", key, version)
            answer = await head(self._sender, call, with_sums=with_sums)
        if answer.code in ("NoSuchKey", "NoSuchVersion"):
            return None
        if not answer.is_good:
            raise asked.refusal(answer, self._clock.now())
        self._keeps_versions = self._keeps_versions or "x-amz-version-id" in answer.headers
        item = item_of(key, answer, asked)
        # a server that keeps no versions may give the object instead
        return item if version in (None, "null", item.version) else None

    async def has_below(self, prefix: str, asked: Asked) -> bool:
        """Whether a listing may be had, and has something."""
        with asked.translated():
            try:
                page = await self._objects(prefix, Cursor(), asked, most=1)
            except AccessRefused:
                return False
        return bool(page.items)

    async def list_below(
        self, prefix: str, cursor: Cursor, asked: Asked
    ) -> tuple[list[Item], Cursor | None]:
        """Ask for a page of what lies below a prefix, and where the next one goes on; None: nowhere.

        Raises ``ReferenceFailed``, ``ReferenceUnavailable``.
        """
        with asked.translated():
            page = await self._objects(prefix, cursor, asked)
            items = [item for item in page.items if not item.is_marker]
            left: list[int] = []
            if items and await self._has_versions(items[0], is_first=not cursor.last):
                left = await self._add_versions(prefix, cursor.last, items, asked)
            items = await self._one_by_one(left, items, asked)
        if page.is_last:
            return items, None
        if not page.token:
            raise asked.is_no_server("it lists only the first page of more")
        return items, Cursor(
            last=page.items[-1].key if page.items else cursor.last, token=page.token
        )

    def open(
        self, key: str, version: str | None, start: int = 0
    ) -> AbstractAsyncContextManager[Answer]:
        """Ask for an object's bytes; a good answer's are unread. Raises as ``Sender.open``.

        Args:
            start: of the first one that is wanted.
        """
        call = self._object_call("GET", key, version)
        if start:  # with nothing that makes it depend on the ETag: the answer tells it
            headers = {**call.headers, "Range": f"bytes={start}-"}
            call = msgspec.structs.replace(call, headers=headers)
        return self._sender.open(call)

    async def aclose(self) -> None:
        """Give back the connections."""
        await self._sender.aclose()

    async def _objects(
        self, prefix: str, cursor: Cursor, asked: Asked, most: int | None = None
    ) -> Objects:
        query = {"list-type": "2", **self._listing(prefix, most)}
        if cursor.token:
            query["continuation-token"] = cursor.token
        answer = await self._ask(query)
        if cursor.token and answer.status == 400 and answer.code == "InvalidArgument":
            # after a long time, of another process; the keys are in order wherever tokens are refused
            del query["continuation-token"]
            answer = await self._ask({**query, "start-after": cursor.last})
        return read_objects(self._good(answer, asked))

    async def _has_versions(self, item: Item, *, is_first: bool) -> bool:
        """Whether the bucket keeps versions, by an object's head: no right is needed for that."""
        if self._keeps_versions is None or (is_first and not self._keeps_versions):
            try:
                answer = await self._sender.send(self._object_call("HEAD", item.key, None))
            except AccessRefused:
                return True  # a listing of versions will tell
            self._keeps_versions = "x-amz-version-id" in answer.headers
        return self._keeps_versions

    async def _add_versions(
        self, prefix: str, after: str, items: list[Item], asked: Asked
    ) -> list[int]:
        """Put versions in the objects' places; which are left, where versions may be listed."""
        left = {item.key: at for at, item in enumerate(items)}
        last, told = max(left), _WORTH
        query = {"versions": "", **self._listing(prefix)}
        query |= {"key-marker": after} if after else {}
        while left and told >= _WORTH:
            page = await self._versions(query, asked)
            if page is None:
                return []
            told = len(left)
            for item in page.items:
                if item.key in left:
                    items[left.pop(item.key)] = item
            told -= len(left)
            if page.is_last or page.next_key > last:
                break
            query |= {"key-marker": page.next_key, "version-id-marker": page.next_version}
        return list(left.values())

    async def _versions(self, query: Mapping[str, str], asked: Asked) -> Versions | None:
        """A page of versions; None where the server, or whoever rules the bucket, gives none."""
        try:
            answer = await self._ask(query)
            if answer.status not in (400, 405, 501):
                return read_versions(self._good(answer, asked))
        except (AccessRefused, NoListing):  # or it takes the question for that for objects
            pass
        self._keeps_versions = False  # the next listing asks again
        return None

    async def _one_by_one(self, missing: list[int], items: list[Item], asked: Asked) -> list[Item]:
        """The same objects, those at ``missing`` and those without a checksum asked for one by one."""
        ask = {*missing, *(at for at, item in enumerate(items) if item.digest is None)}
        found: list[Item | None] = list(items)
        places = anyio.Semaphore(_AT_ONCE)

        async def find(at: int) -> None:
            async with places:
                with suppress(ReferenceFailed):  # who may list need not be allowed to look
                    found[at] = await self.find(items[at].key, None, asked)

        await all_of(*(partial(find, at) for at in ask))
        return [item for item in found if item is not None]  # others are deleted meanwhile

    async def _ask(self, query: Mapping[str, str]) -> Answer:
        call = Call(method="GET", key=None, query=query, headers=self._headers())
        return await self._sender.send(call)

    def _object_call(self, method: str, key: str, version: str | None) -> Call:
        query, streamed = {"versionId": version} if version else {}, method == "GET"
        return Call(method, key, query, self._headers(), streamed=streamed)

    def _good(self, answer: Answer, asked: Asked) -> bytes:
        if not answer.is_good:
            raise asked.refusal(answer, self._clock.now())
        return answer.body

    def _listing(self, prefix: str, most: int | None = None) -> dict[str, str]:
        most = most or self._page
        return {"prefix": prefix, "encoding-type": "url", "max-keys": str(most)}
