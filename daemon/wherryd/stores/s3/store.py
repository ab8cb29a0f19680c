"""The verbs of a store in an S3 bucket.

Owns: what each verb asks, and what 404, 409, 412 and 416 mean to it. Does not own: signing and refusals
(``sender``), parts (``multipart``), order (``listing``), repeating (``wherryd.stores.retry``).
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

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
    UploadStat,
    WriteConflict,
)
from wherryd.stores.credentials import CredentialSource, StoreCredentials
from wherryd.stores.http.answers import parse_date, poured, range_header, ranged, why_damaged
from wherryd.stores.parts import SINGLE_PUT_BYTES
from wherryd.stores.retry import PATIENT, Retry
from wherryd.stores.s3.answers import (
    Answer,
    Call,
    checksum,
    etag_of,
    is_missing,
    problem,
)
from wherryd.stores.s3.listing import Listing
from wherryd.stores.s3.multipart import Multipart, give_up
from wherryd.stores.s3.sender import Sender
from wherryd.stores.s3.uploads import list_uploads
from wherryd.stores.together import OneByOne
from wherryd.stores.traffic import Traffic

_PUT_BEFORE_SEND = failpoint("stores.s3.put.before-send")
_PUT_AFTER_ANSWER = failpoint("stores.s3.put.after-answer")
_WRITE_BEFORE_SEND = failpoint("stores.s3.conditional.before-send")
_WRITE_AFTER_ANSWER = failpoint("stores.s3.conditional.after-answer")


class S3Store(OneByOne):
    """An ``ObjectStore`` in a bucket that is there already.

    Args:
        address: normalized.
        credentials: its sets; None: only the daemon's own.
        clock: for signatures and pauses.
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
        self._sender = Sender(address, credentials or StoreCredentials(), clock, traffic)
        self._retry = Retry(clock, PATIENT)
        self._listing = Listing(self._sender, page)

    @property
    def address(self) -> str:
        return self._address

    async def get(self, key: str) -> Object:
        call = Call(method="GET", key=key)
        answer = await self._sender.send(call)
        if not answer.is_good:
            raise problem(call, answer)
        return Object(stat=_stat(call, answer, len(answer.body)), body=answer.body)

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
        call = Call(method="HEAD", key=key)
        answer = await self._sender.send(call)
        if answer.status == 404 and not is_missing(call, answer):
            raise await self._why_not_there(key)
        if not answer.is_good:
            raise problem(call, answer)
        return _stat(call, answer, int(answer.headers.get("Content-Length", 0)))

    async def put(self, key: str, body: Body) -> None:
        if isinstance(body, FileBody) and body.size > SINGLE_PUT_BYTES:
            await Multipart(self._sender, self._retry, key, body).run()
            return
        call = _put(key, body, {})
        _PUT_BEFORE_SEND()
        answer = await self._sender.send(call)
        _PUT_AFTER_ANSWER()
        if answer.is_damaged:
            raise await why_damaged(call.what, call.body)
        if not answer.is_good:
            raise problem(call, answer)
        etag_of(call, answer)

    async def put_if_absent(self, key: str, body: bytes) -> str:
        return await self._write(_put(key, body, {"If-None-Match": "*"}), ObjectExists)

    async def put_if_match(self, key: str, body: bytes, etag: str) -> str:
        return await self._write(_put(key, body, {"If-Match": etag}), EtagMismatch)

    async def list(self, prefix: str, start_after: str = "") -> AsyncGenerator[ObjectStat, None]:
        async for stat in self._listing.walk(prefix, start_after):
            yield stat

    async def scan(self, prefix: str) -> AsyncGenerator[ObjectStat, None]:
        async for stat in self._listing.scan(prefix):
            yield stat

    async def list_folders(self, prefix: str) -> AsyncGenerator[str, None]:
        async for item in self._listing.level(prefix):
            if item.stat is None:
                yield item.name

    async def delete(self, key: str) -> None:
        call = Call(method="DELETE", key=key)
        answer = await self._sender.send(call)
        if not answer.is_good and answer.code != "NoSuchKey":
            raise problem(call, answer)

    async def give_up(self, key: str, upload: str) -> None:
        await give_up(self._sender, self._retry, key, upload)

    async def list_uploads(self, prefix: str) -> AsyncGenerator[UploadStat, None]:
        async for stat in list_uploads(self._sender, prefix):
            yield stat

    async def aclose(self) -> None:
        await self._sender.aclose()

    @asynccontextmanager
    async def _range(
        self, key: str, offset: int, size: int | None, *, is_large: bool = False
    ) -> AsyncGenerator[Answer, None]:
        """Ask for a part of an object; the answer has it, or says that it begins behind the end (416)."""
        headers = range_header(offset, size)
        call = Call(method="GET", key=key, headers=headers, streamed=True, is_large=is_large)
        async with self._sender.open(call) as answer:
            if answer.response is None and answer.status != 416:
                raise problem(call, answer)
            yield answer

    async def _why_not_there(self, key: str) -> Exception:
        """Ask for the first byte: only the answer to GET tells the store's 404 from another's."""
        call = Call(method="GET", key=key, headers={"Range": "bytes=0-0"}, streamed=True)
        async with self._sender.open(call) as answer:
            if answer.is_good or answer.status == 416:
                return StoreUnavailable(f"{key} is there for GET and not for HEAD.")
            return problem(call, answer)

    async def _write(self, call: Call, refused: type[ObjectExists | EtagMismatch]) -> str:
        """Send a conditional put; return the new ETag."""
        _WRITE_BEFORE_SEND()
        answer = await self._sender.send(call)
        _WRITE_AFTER_ANSWER()
        if answer.status == 412 or (answer.code == "NoSuchKey" and refused is EtagMismatch):
            raise refused(call.key)
        if answer.status == 409:
            raise WriteConflict(call.key)
        if answer.is_damaged:
            raise await why_damaged(call.what, call.body)
        if not answer.is_good:
            raise problem(call, answer)
        return etag_of(call, answer)


def _put(key: str, body: Body, condition: dict[str, str]) -> Call:
    digest = hashlib.sha256(body).digest() if isinstance(body, bytes) else body.sha256
    sums = checksum(digest)
    return Call(method="PUT", key=key, headers=condition, sums=sums, body=body, digest=digest)


def _stat(call: Call, answer: Answer, size: int) -> ObjectStat:
    assert call.key is not None
    return ObjectStat(
        key=call.key,
        size=size,
        etag=etag_of(call, answer),
        modified=parse_date(answer.headers.get("Last-Modified", "")) or 0.0,
    )
