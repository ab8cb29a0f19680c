"""Big files, in parts (Amazon S3 User Guide, "Uploading and copying objects using multipart upload").

Owns: the steps of one upload, going on with one that an earlier start began, repeating a step. Nothing lands
under a digest that is not its own: what each part has to be was found out when the whole was hashed, and the
server refuses any other. Does not own: what is kept of an upload (``Ledger``), giving up for good those that
nobody goes on with, repeating the whole.

A kill leaves parts in the bucket and their numbers in the ledger; a part that came in and is not in the
ledger counts if the server tells its SHA-256, and is sent again otherwise.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from wherry.errors import AccessRefused, StoreError, StoreUnavailable, WherryError
from wherry.wire.failpoints import failpoint
from wherryd.model import PartSums, Upload
from wherryd.stores.base import Body, FileBody, Ledger, OutcomeUnknown
from wherryd.stores.bodies import changed, find_changed
from wherryd.stores.parts import is_for, make_sums, part_bytes, split, sum_of
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
from wherryd.stores.stepwise import Stepwise, UploadOver

#: Parts of one upload at once, where there is room.
_AT_ONCE = 4
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"

_BEGUN = failpoint("stores.s3.multipart.begun")
_KEPT = failpoint("stores.s3.multipart.kept")
_BEFORE_NOTE = failpoint("stores.s3.multipart.before-note")
_AFTER_NOTE = failpoint("stores.s3.multipart.after-note")
_BEFORE_COMPLETE = failpoint("stores.s3.multipart.before-complete")
_AFTER_COMPLETE = failpoint("stores.s3.multipart.after-complete")


class Multipart(Stepwise):
    """One upload.

    Args:
        sender: of the bucket.
        retry: repeats what meets a short fault.
        key: what it will be.
        body: the file.
    """

    def __init__(self, sender: Sender, retry: Retry, key: str, body: FileBody) -> None:
        super().__init__(retry, key, body)
        self._sender = sender
        self._etags: dict[int, str] = {}  # of the parts that the server has
        self._failure: Exception | None = None

    async def run(self) -> None:
        """Upload it, or what is missing of it. Raises as ``ObjectStore.put``."""
        sums = await self._sums()
        await self._go_on(sums)
        if not self._upload.name:
            await self._begin(sums)
        try:
            async with self._left_if_it_fails():
                await self._send_parts(sums)
                _BEFORE_COMPLETE()
                await self._retry.run(f"complete {self._key}", partial(self._complete, sums))
                _AFTER_COMPLETE()
        except UploadOver as exc:
            with suppress(StoreError):
                await self._give_up()  # of one whose parts are not what they were
            await self._ledger.forget(self._upload)
            raise OutcomeUnknown(str(exc)) from exc

    async def _sums(self) -> PartSums:
        sums = await self._ledger.sums()
        each = part_bytes(self._body.size)
        if sums is None or not is_for(sums, self._body.size, each):
            sums = await to_thread.run_sync(make_sums, self._body, each)
            await self._ledger.keep_sums(sums)
        return sums

    # ── beginning, and going on ────────────────────────────────────────────────────────────────
    async def _begin(self, sums: PartSums) -> None:
        call = self._call("POST", {"uploads": ""}, sums={"x-amz-checksum-algorithm": "SHA256"})
        name = _text_in(await self._send(call), "UploadId")
        if not name:
            raise OutcomeUnknown(f"{call.what}: the answer names no upload.")
        _BEGUN()
        self._upload = await self._ledger.begin(name, sums.part_bytes)
        _KEPT()

    async def _go_on(self, sums: PartSums) -> None:
        """Take up an upload that was begun: those of its parts count that the server has, and are right."""
        upload = await self._ledger.take()
        if upload is None:
            return
        self._upload = upload
        try:
            if upload.part_bytes == sums.part_bytes:
                self._etags = await self._find_parts(sums)
                return
            await self._give_up()
        except AccessRefused:
            # Listing parts is a right of its own (s3:ListMultipartUploadParts): what was noted has to do.
            self._etags = dict(upload.sent)
            return
        except UploadOver:
            pass
        await self._ledger.forget(upload)
        self._upload = Upload(0, "", 0, {})

    async def _find_parts(self, sums: PartSums) -> dict[int, str]:
        sizes = [size for _, size in split(self._body.size, sums.part_bytes)]
        found: dict[int, str] = {}
        async for part in self._list_parts():
            number, etag = int(part.get("PartNumber", 0)), part.get("ETag", "")
            if not 0 < number <= len(sizes) or int(part.get("Size", -1)) != sizes[number - 1]:
                continue
            told = b64decode(part.get("ChecksumSHA256", ""))
            if told == sum_of(sums, number) or (not told and self._upload.sent.get(number) == etag):
                found[number] = etag
        return found

    async def _list_parts(self) -> AsyncGenerator[Mapping[str, str], None]:
        marker = "0"
        while True:
            query = {"uploadId": self._upload.name, "part-number-marker": marker}
            call = self._call("GET", query)
            what = f"list the parts of {self._key}"
            answer = await self._retry.run(what, partial(self._send, call))
            try:
                page = parse_xml(answer.body)
            except ET.ParseError as exc:
                raise StoreUnavailable(f"{call.what}: the answer is no list of parts.") from exc
            for part in page.findall("Part"):
                yield {field.tag: field.text or "" for field in part}
            following = page.findtext("NextPartNumberMarker", "")
            if page.findtext("IsTruncated") != "true" or following == marker:
                return
            marker = following

    # ── the parts ──────────────────────────────────────────────────────────────────────────────
    async def _send_parts(self, sums: PartSums) -> None:
        """Send those that are missing, as many at once as there is room for."""
        room, shares = _Room(self._ledger), _Shares(self._body)
        async with anyio.create_task_group() as group:
            with self._noting_failure(group.cancel_scope):
                for number, (offset, size) in enumerate(
                    split(self._body.size, sums.part_bytes), start=1
                ):
                    if number in self._etags:
                        shares.begin()(size)
                        continue
                    is_further = await room.take()
                    part = FileBody(
                        path=self._body.path,
                        offset=self._body.offset + offset,
                        size=size,
                        sha256=sum_of(sums, number),
                        told=shares.begin(),
                    )
                    group.start_soon(
                        self._send_part, number, part, partial(room.give, is_further), group
                    )
        if self._failure:
            raise self._failure

    async def _send_part(
        self, number: int, part: FileBody, give_room: Callable[[], None], group: TaskGroup
    ) -> None:
        query = {"partNumber": str(number), "uploadId": self._upload.name}
        sums = checksum(part.sha256)
        call = self._call("PUT", query, sums=sums, body=part, digest=part.sha256)
        try:
            with self._noting_failure(group.cancel_scope):
                what = f"part {number} of {self._key}"
                etag = await self._retry.run(what, partial(self._put_part, call, part))
                _BEFORE_NOTE()
                await self._ledger.note_part(self._upload, number, etag)
                _AFTER_NOTE()
                self._etags[number] = etag
                part.told(part.size)
        finally:
            give_room()

    async def _put_part(self, call: Call, part: FileBody) -> str:
        answer = await self._sender.send(call)
        file = await to_thread.run_sync(find_changed, part) if answer.is_damaged else None
        if file is not None:
            raise changed(self._body, "is not what it was when it was hashed")
        if not answer.is_good:
            raise self._problem(call, answer)
        return etag_of(call, answer)

    # ── the end ────────────────────────────────────────────────────────────────────────────────
    async def _complete(self, sums: PartSums) -> None:
        body = _completion(self._etags, sums if await self._sender.takes_sums() else None)
        digest = hashlib.sha256(body).digest()
        call = self._call("POST", {"uploadId": self._upload.name}, body=body, digest=digest)
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

    async def _give_up(self) -> None:
        await give_up(self._sender, self._retry, self._key, self._upload.name)

    async def _send(self, call: Call) -> Answer:
        answer = await self._sender.send(call)
        if not answer.is_good:
            raise self._problem(call, answer)
        return answer

    def _problem(self, call: Call, answer: Answer) -> Exception:
        if answer.code in ("NoSuchUpload", "InvalidPart"):
            return UploadOver(f"{call.what}: the server has given the upload up.")
        if answer.is_damaged:  # on their way
            return StoreUnavailable(f"{call.what}: other bytes arrived than were sent.")
        return problem(call, answer)

    @contextmanager
    def _noting_failure(self, scope: anyio.CancelScope) -> Iterator[None]:
        try:
            yield
        except (WherryError, UploadOver) as exc:
            self._failure = self._failure or exc
            scope.cancel()

    def _call(
        self,
        method: str,
        query: dict[str, str],
        *,
        sums: dict[str, str] | None = None,
        body: Body = b"",
        digest: bytes = NOTHING,
    ) -> Call:
        return Call(
            method=method,
            key=self._key,
            query=query,
            sums=sums or {},
            body=body,
            digest=digest,
        )


class _Room:
    """How many parts are sent at once: one always, further ones where the ledger has room."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._own = 1
        self._further = 0
        self._given = anyio.Event()

    async def take(self) -> bool:
        """Wait for room; True where it is the ledger's, and not our own."""
        while not self._own:
            if self._further < _AT_ONCE - 1 and self._ledger.take_room():
                self._further += 1
                return True
            self._given = anyio.Event()
            await self._given.wait()
        self._own -= 1
        return False

    def give(self, is_further: bool) -> None:
        """Give it back."""
        if is_further:
            self._further -= 1
            self._ledger.give_room()
        else:
            self._own += 1
        self._given.set()


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


def _text_in(answer: Answer, name: str) -> str:
    """What an element of a good answer says; empty where it is not there, or the answer is something else."""
    try:
        return parse_xml(answer.body).findtext(name, "")
    except ET.ParseError:
        return ""


def _completion(etags: Mapping[int, str], sums: PartSums | None) -> bytes:
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag>"
        f"{_checksum_in(sums, number)}</Part>"
        for number, etag in sorted(etags.items())
    )
    return (
        f'<CompleteMultipartUpload xmlns="{_NAMESPACE}">{parts}</CompleteMultipartUpload>'.encode()
    )


def _checksum_in(sums: PartSums | None, number: int) -> str:
    if sums is None:
        return ""
    return f"<ChecksumSHA256>{b64encode(sum_of(sums, number)).decode()}</ChecksumSHA256>"


async def give_up(sender: Sender, retry: Retry, key: str, upload: str) -> None:
    """Have the server remove an upload's parts; no error where it is gone."""

    async def abort() -> None:
        call = Call(method="DELETE", key=key, query={"uploadId": upload})
        answer = await sender.send(call)
        if not answer.is_good and answer.code != "NoSuchUpload":
            raise problem(call, answer)

    await retry.run(f"abort {key}", abort)
