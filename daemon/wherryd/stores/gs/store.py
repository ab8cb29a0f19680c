"""The verbs of a store in a bucket on Google Cloud Storage.

Owns: what each verb asks, and what 404, 409, 412 and 416 mean to it. Does not own: credentials and refusals
(``sender``), big files (``resumable``), order (``listing``), repeating (``wherryd.stores.retry``).

An object's ETag is here its generation: a number that no object of the bucket has twice, and 0 for none.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from anyio import to_thread

from wherry.errors import StoreUnavailable
from wherry.wire.failpoints import failpoint
from wherryd.clock import Clock
from wherryd.stores.base import (
    Body,
    EtagMismatch,
    FileBody,
    Object,
    ObjectExists,
    ObjectStat,
    Sink,
    WriteConflict,
)
from wherryd.stores.crc32c import crc32c
from wherryd.stores.credentials import CredentialSource, StoreCredentials
from wherryd.stores.gs.answers import (
    Answer,
    Call,
    created,
    generation_of,
    is_missing,
    problem,
    read,
)
from wherryd.stores.gs.bodies import FIELDS, make_crc32c, upload
from wherryd.stores.gs.landed import confirm
from wherryd.stores.gs.listing import Listing, stat_of
from wherryd.stores.gs.resources import Resource
from wherryd.stores.gs.resumable import Resumable, give_up
from wherryd.stores.gs.sender import Sender
from wherryd.stores.http.answers import parse_date, poured, range_header, ranged, why_damaged
from wherryd.stores.parts import SINGLE_PUT_BYTES
from wherryd.stores.retry import PATIENT, Retry
from wherryd.stores.together import OneByOne
from wherryd.stores.traffic import Traffic
from wherryd.stores.whole import ListsNoUploads

_PUT_BEFORE_SEND = failpoint("stores.gs.put.before-send")
_PUT_AFTER_ANSWER = failpoint("stores.gs.put.after-answer")
_WRITE_BEFORE_SEND = failpoint("stores.gs.conditional.before-send")
_WRITE_AFTER_ANSWER = failpoint("stores.gs.conditional.after-answer")


class GsStore(OneByOne, ListsNoUploads):
    """An ``ObjectStore`` in a bucket that is there already.

    Args:
        address: normalized.
        credentials: its sets; None: only the daemon's own.
        clock: for pauses, and for how long ago tokens were asked for.
        page: objects in a page of a listing; None: as many as the server likes.
        traffic: what all requests share; None: nothing is shared.
    """

    def __init__(
        self,
        address: str,
        credentials: CredentialSource | None,
        clock: Clock,
        *,
        page: int | None = None,
        traffic: Traffic | None = None,
    ) -> None:
        super().__init__()
        self._address = address
        self._clock = clock
        self._sender = Sender(address, credentials or StoreCredentials(), clock, traffic)
        self._retry = Retry(clock, PATIENT)
        self._listing = Listing(self._sender, page)

    @property
    def address(self) -> str:
        return self._address

    async def get(self, key: str) -> Object:
        call = Call(method="GET", key=key, query={"alt": "media"})
        answer = await self._sender.send(call)
        if not answer.is_good:
            raise await self._why_not(call, answer)
        stat = ObjectStat(
            key=key,
            size=len(answer.body),
            etag=generation_of(call, answer),
            modified=parse_date(answer.headers.get("Last-Modified", "")) or 0.0,
        )
        return Object(stat=stat, body=answer.body)

    async def stream(
        self, key: str, offset: int = 0, size: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        if size == 0:
            await self.head(key)
            return
        async with self._range(key, offset, size) as answer:
            async for chunk in ranged(key, answer.status, answer.response, offset, size):
                yield chunk

    async def stream_to(self, key: str, offset: int, size: int | None, sink: Sink) -> None:
        if size == 0:
            await self.head(key)
            return
        async with self._range(key, offset, size, is_large=True) as answer:
            await poured(key, answer.status, answer.response, offset, size, sink)

    async def head(self, key: str) -> ObjectStat:
        call = Call(method="GET", key=key, query={"fields": FIELDS})
        return stat_of(read(call, await self._sender.send(call), Resource), key)

    async def put(self, key: str, body: Body) -> None:
        if isinstance(body, FileBody) and body.size > SINGLE_PUT_BYTES:
            await Resumable(self._sender, self._retry, key, body).run()
            return
        if isinstance(body, bytes):
            digest = crc32c(body)
        else:
            digest = await to_thread.run_sync(make_crc32c, body)
        call = upload(self._sender.prefix, key, body, digest, {}, self._clock)
        _PUT_BEFORE_SEND()
        answer = await self._sender.send(call)
        _PUT_AFTER_ANSWER()
        if answer.is_damaged:
            raise await why_damaged(call.what, body)
        await confirm(self._sender, call, answer, digest)

    async def put_if_absent(self, key: str, body: bytes) -> str:
        return await self._write(key, body, "0", ObjectExists)

    async def put_if_match(self, key: str, body: bytes, etag: str) -> str:
        if not etag.isdecimal() or not int(etag):
            raise EtagMismatch(key)  # no object has this
        return await self._write(key, body, etag, EtagMismatch)

    async def list(self, prefix: str, start_after: str = "") -> AsyncGenerator[ObjectStat, None]:
        async for stat in self._listing.walk(prefix, start_after):
            yield stat

    def scan(self, prefix: str) -> AsyncGenerator[ObjectStat, None]:
        return self.list(prefix)

    async def list_folders(self, prefix: str) -> AsyncGenerator[str, None]:
        async for name in self._listing.folders(prefix):
            yield name

    async def delete(self, key: str) -> None:
        call = Call(method="DELETE", key=key)
        answer = await self._sender.send(call)
        if not answer.is_good and not is_missing(call, answer):
            raise problem(call, answer)

    async def give_up(self, key: str, upload: str) -> None:
        await give_up(self._sender, self._retry, key, upload)

    async def aclose(self) -> None:
        await self._sender.aclose()

    @asynccontextmanager
    async def _range(
        self, key: str, offset: int, size: int | None, *, is_large: bool = False
    ) -> AsyncGenerator[Answer, None]:
        """Ask for a part of an object; the answer has it, or says that it begins behind the end (416)."""
        call = Call(
            method="GET",
            key=key,
            query={"alt": "media"},
            headers=range_header(offset, size),
            streamed=True,
            is_large=is_large,
        )
        async with self._sender.open(call) as answer:
            if answer.response is None and answer.status != 416:
                raise await self._why_not(call, answer)
            yield answer

    async def _why_not(self, call: Call, answer: Answer) -> Exception:
        """Ask what the server says of the object: not every one's 404 to its bytes bears a sign."""
        if answer.status != 404 or answer.is_the_stores:
            return problem(call, answer)
        assert call.key is not None
        await self.head(call.key)
        return StoreUnavailable(f"{call.key} is there, and its bytes are not.")

    async def _write(
        self, key: str, body: bytes, generation: str, refused: type[ObjectExists | EtagMismatch]
    ) -> str:
        """Send a conditional put; return the new generation."""
        condition = {"ifGenerationMatch": generation}
        call = upload(self._sender.prefix, key, body, crc32c(body), condition, self._clock)
        _WRITE_BEFORE_SEND()
        answer = await self._sender.send(call)
        _WRITE_AFTER_ANSWER()
        if answer.is_damaged:
            raise await why_damaged(call.what, body)
        if answer.status == 412 and answer.is_the_stores:
            raise refused(key)
        if answer.status == 409:
            raise WriteConflict(key)
        return created(call, answer).generation
