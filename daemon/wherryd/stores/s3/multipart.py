"""Big files, in parts (Amazon S3 User Guide, "Uploading and copying objects using multipart upload").

Owns: the parts of one upload, and that nothing lands under a digest that is not its own: each part is hashed,
and the whole with it, right before the part is sent with that hash, which the server checks; the upload is
completed only if the whole is what it should be. Parts and the end are repeated here, since their failure
costs all that went before. Does not own: repeating the beginning, which costs nothing, or the whole; going on
after a kill: the upload begins anew, and what was left is the bucket's lifecycle rule's to remove.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

import anyio
import msgspec
from anyio import to_thread

from wherry.errors import StoreError, StoreUnavailable, WherryError
from wherry.wire.failpoints import failpoint
from wherryd.stores.base import Body, FileBody, OutcomeUnknown, StepsFailed
from wherryd.stores.bodies import check, opened, pieces
from wherryd.stores.retry import Retry
from wherryd.stores.s3.answers import (
    NOTHING,
    Answer,
    Call,
    checksum,
    etag_of,
    explained,
    parse_xml,
    problem,
)
from wherryd.stores.s3.sender import Sender

SINGLE_PUT_BYTES = 16 << 20
"""Up to this size a body is put in one request; above, in parts of this size or more."""

_MOST_PARTS = 10_000
_AT_ONCE = 4
_ABORT_S = 5
_MIB = 1 << 20
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"

_BEGUN = failpoint("stores.s3.multipart.begun")
_BEFORE_COMPLETE = failpoint("stores.s3.multipart.before-complete")
_AFTER_COMPLETE = failpoint("stores.s3.multipart.after-complete")


class Hash(Protocol):
    """What hashlib makes."""

    def update(self, data: bytes, /) -> None: ...


class _UploadGone(Exception):
    """The server has given the upload up: no step of it can succeed any more."""


class Multipart:
    """One upload.

    Args:
        sender: of the bucket.
        retry: repeats what meets a short fault.
        key: what it will be.
        body: the file.
    """

    def __init__(self, sender: Sender, retry: Retry, key: str, body: FileBody) -> None:
        self._sender = sender
        self._retry = retry
        self._key = key
        self._body = body
        self._upload = ""
        #: Number, ETag and SHA-256 of the parts that the server has.
        self._sent: list[tuple[int, str, bytes]] = []
        self._failure: Exception | None = None

    async def run(self) -> None:
        """Upload it. Whatever goes wrong, the parts are given up. Raises as ``ObjectStore.put``."""
        await self._begin()
        _BEGUN()
        try:
            await self._send_parts()
            _BEFORE_COMPLETE()
            await self._retry.run(f"complete {self._key}", self._complete)
            _AFTER_COMPLETE()
        except _UploadGone as exc:
            raise OutcomeUnknown(str(exc)) from exc
        except StoreUnavailable as exc:
            await self._abort()
            raise StepsFailed(exc.message, hint=exc.hint) from exc
        except BaseException:
            await self._abort()
            raise

    async def _begin(self) -> None:
        call = self._call("POST", {"uploads": ""}, headers={"x-amz-checksum-algorithm": "SHA256"})
        self._upload = _text_in(await self._send(call), "UploadId")
        if not self._upload:
            raise OutcomeUnknown(f"{call.what}: the answer names no upload.")

    async def _send_parts(self) -> None:
        """Hash part after part, and send a few at once behind."""
        whole, room, shares = hashlib.sha256(), anyio.Semaphore(_AT_ONCE), _Shares(self._body)
        async with anyio.create_task_group() as group:
            with self._noting_failure(group.cancel_scope):
                for number, (offset, size) in enumerate(split(self._body.size), start=1):
                    await room.acquire()
                    part = await to_thread.run_sync(_hashed, self._body, offset, size, whole)
                    part = msgspec.structs.replace(part, told=shares.begin())
                    group.start_soon(self._send_part, number, part, room, group.cancel_scope)
        if self._failure:
            raise self._failure
        check(self._body, whole.digest())

    async def _send_part(
        self, number: int, part: FileBody, room: anyio.Semaphore, scope: anyio.CancelScope
    ) -> None:
        query = {"partNumber": str(number), "uploadId": self._upload}
        headers = checksum(part.sha256)
        call = self._call("PUT", query, headers=headers, body=part, digest=part.sha256)
        with self._noting_failure(scope):
            what = f"part {number} of {self._key}"
            etag = await self._retry.run(what, lambda: self._put_part(call))
            self._sent.append((number, etag, part.sha256))
            part.told(part.size)
        room.release()

    async def _put_part(self, call: Call) -> str:
        return etag_of(call, await self._send(call))

    async def _complete(self) -> None:
        body = _completion(sorted(self._sent))
        digest = hashlib.sha256(body).digest()
        call = self._call("POST", {"uploadId": self._upload}, body=body, digest=digest)
        answer = await self._sender.send(call)
        if answer.code == "NoSuchUpload" and await self._is_there():
            return  # an earlier try, whose answer was lost, did it
        if not answer.is_good:
            raise self._problem(call, answer)
        if not _text_in(answer, "ETag"):
            # "the initial 200 OK response … might contain an error" (API Reference, CompleteMultipartUpload)
            answer = explained(answer)
            raise OutcomeUnknown(f"{call.what}: not done: {answer.code} {answer.message}".strip())

    async def _is_there(self) -> bool:
        answer = await self._sender.send(Call(method="HEAD", key=self._key))
        return answer.is_good and answer.headers.get("Content-Length") == str(self._body.size)

    async def _abort(self) -> None:
        """Give the parts back, in a few tries; those that stay cost money until a lifecycle rule has them."""
        with anyio.move_on_after(_ABORT_S, shield=True), suppress(StoreError):
            await self._retry.run(f"abort {self._key}", self._abort_once)

    async def _abort_once(self) -> None:
        call = self._call("DELETE", {"uploadId": self._upload})
        answer = await self._sender.send(call)
        if not answer.is_good and answer.code != "NoSuchUpload":
            raise self._problem(call, answer)

    async def _send(self, call: Call) -> Answer:
        answer = await self._sender.send(call)
        if not answer.is_good:
            raise self._problem(call, answer)
        return answer

    def _problem(self, call: Call, answer: Answer) -> Exception:
        if answer.code == "NoSuchUpload":
            return _UploadGone(f"{call.what}: the server has given the upload up.")
        if answer.is_damaged:
            # hashed a moment ago: the file changed since, or the bytes on their way
            return StoreUnavailable(f"{call.what}: other bytes arrived than were sent.")
        return problem(call, answer)

    @contextmanager
    def _noting_failure(self, scope: anyio.CancelScope) -> Iterator[None]:
        try:
            yield
        except (WherryError, _UploadGone) as exc:
            self._failure = self._failure or exc
            scope.cancel()

    def _call(
        self,
        method: str,
        query: dict[str, str],
        *,
        headers: dict[str, str] | None = None,
        body: Body = b"",
        digest: bytes = NOTHING,
    ) -> Call:
        return Call(
            method=method,
            key=self._key,
            query=query,
            headers=headers or {},
            body=body,
            digest=digest,
        )


class _Shares:
    """How many bytes of the whole have left, out of what is told of its parts."""

    def __init__(self, body: FileBody) -> None:
        self._body = body
        self._left = 0

    def begin(self) -> Callable[[int], None]:
        """Give what a part tells how many of its bytes have left."""
        before = 0

        def tell(left: int) -> None:
            nonlocal before
            self._left += left - before
            before = left
            self._body.told(self._left)

        return tell


def split(size: int) -> Iterator[tuple[int, int]]:
    """Offset and size of each part of so many bytes; sizes are whole MiB but for the last."""
    fewest = -(-size // _MOST_PARTS)
    part = max(SINGLE_PUT_BYTES, -(-fewest // _MIB) * _MIB)
    for offset in range(0, size, part):
        yield offset, min(part, size - offset)


def _hashed(body: FileBody, offset: int, size: int, whole: Hash) -> FileBody:
    """One part as a body of its own; its bytes go into the hash of the whole, too."""
    part = FileBody(path=body.path, offset=body.offset + offset, size=size, sha256=b"")
    sha256 = hashlib.sha256()
    with opened(part) as fd:
        for piece in pieces(fd, part):
            sha256.update(piece)
            whole.update(piece)
    return msgspec.structs.replace(part, sha256=sha256.digest())


def _text_in(answer: Answer, name: str) -> str:
    """What an element of a good answer says; empty where it is not there, or the answer is something else."""
    try:
        return parse_xml(answer.body).findtext(name, "")
    except ET.ParseError:
        return ""


def _completion(sent: list[tuple[int, str, bytes]]) -> bytes:
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag>"
        f"<ChecksumSHA256>{b64encode(sha256).decode()}</ChecksumSHA256></Part>"
        for number, etag, sha256 in sent
    )
    return (
        f'<CompleteMultipartUpload xmlns="{_NAMESPACE}">{parts}</CompleteMultipartUpload>'.encode()
    )
