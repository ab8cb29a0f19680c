"""Big files, in a session (Cloud Storage, "Resumable uploads").

Owns: the steps of one session, going on with one that an earlier start began, repeating a step. Nothing lands
under a digest that is not its own: a part is read whole, and leaves only if it is what it was when the whole
was hashed; the server compares the whole with the CRC32C that was made then. Does not own: what is kept of a
session (``Ledger``), giving up for good those that nobody goes on with, repeating the whole.

A session takes bytes in their order, one request after the other. How far it is only the server knows: it is
asked after every failure and every kill, and what follows goes on from there, be it in the middle of a part.
Nothing lists sessions; one that nobody goes on with ends after a week.
"""

from __future__ import annotations

import hashlib
import re
from functools import partial

import msgspec
from anyio import to_thread

from wherry.wire.failpoints import failpoint
from wherryd.model import PartSums, Upload
from wherryd.stores.base import FileBody, OutcomeUnknown
from wherryd.stores.bodies import changed, read_piece
from wherryd.stores.crc32c import Crc32c, written
from wherryd.stores.gs.answers import Answer, Call, created, failed, is_missing, problem, read
from wherryd.stores.gs.bodies import FIELDS, description
from wherryd.stores.gs.landed import confirm
from wherryd.stores.gs.place import session_path
from wherryd.stores.gs.resources import Resource
from wherryd.stores.gs.sender import Sender
from wherryd.stores.http.sending import Readable
from wherryd.stores.parts import PART_BYTES, crc32c_in, is_for, make_sums, sum_of
from wherryd.stores.retry import Retry
from wherryd.stores.stepwise import Stepwise, UploadOver

_GONE = (404, 410)
#: "Client closed request": what the server says when a session was cancelled.
_CANCELLED = 499
_REACHED = re.compile(r"bytes=0-(\d+)")

_BEGUN = failpoint("stores.gs.resumable.begun")
_KEPT = failpoint("stores.gs.resumable.kept")
_BEFORE_NOTE = failpoint("stores.gs.resumable.before-note")
_AFTER_NOTE = failpoint("stores.gs.resumable.after-note")
_BEFORE_LAST = failpoint("stores.gs.resumable.before-last")
_AFTER_LAST = failpoint("stores.gs.resumable.after-last")


class Resumable(Stepwise):
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
        self._at = 0  # how many bytes the server has, …
        self._is_sure = True  # … unless a request got no good answer since

    async def run(self) -> None:
        """Upload it, or what is missing of it. Raises as ``ObjectStore.put``."""
        sums = await self._sums()
        answer = await self._go_on()
        if answer is None:
            await self._begin(sums)
        try:
            async with self._left_if_it_fails():
                while answer is None or not answer.is_good:
                    answer = await self._send_part(sums)
                await self._confirm(answer, sums)
        except UploadOver as exc:
            await self._ledger.forget(self._upload)
            raise OutcomeUnknown(str(exc)) from exc

    async def _sums(self) -> PartSums:
        sums = await self._ledger.sums()
        if sums is None or not is_for(sums, self._body.size, PART_BYTES) or not crc32c_in(sums):
            sums = await to_thread.run_sync(make_sums, self._body, PART_BYTES, Crc32c())
            await self._ledger.keep_sums(sums)
        return sums

    # ── beginning, and going on ────────────────────────────────────────────────────────────────
    async def _begin(self, sums: PartSums) -> None:
        told = description(self._sender.prefix + self._key, crc32c_in(sums))
        call = Call(
            method="POST",
            key=self._key,
            query={"uploadType": "resumable", "fields": FIELDS},
            headers={
                "Content-Type": "application/json; charset=UTF-8",
                "X-Upload-Content-Length": str(self._body.size),
                "X-Upload-Content-Type": "application/octet-stream",
            },
            body=msgspec.json.encode(told),
            is_upload=True,
        )
        answer = await self._sender.send(call)
        if not answer.is_good:
            raise problem(call, answer)
        if not answer.headers.get("Location"):
            raise failed(call, f"{call.what}: the answer names no session.")
        _BEGUN()
        session = session_path(answer.headers["Location"])
        self._upload = await self._ledger.begin(session, PART_BYTES)
        self._at, self._is_sure = 0, True
        _KEPT()

    async def _go_on(self) -> Answer | None:
        """Take up a session that was begun: what the server says of it; None where there is none."""
        upload = await self._ledger.take()
        if upload is None:
            return None
        self._upload = upload
        try:
            return await self._retry.run(f"ask for {self._key}", self._ask)
        except UploadOver:
            await self._ledger.forget(upload)
            self._upload = Upload(0, "", 0, {})
            return None

    async def _ask(self) -> Answer:
        """Ask how far the session is. Where it is done, the object has to be there still."""
        call = self._call({"Content-Range": f"bytes */{self._body.size}"})
        answer = await self._step(call)
        if answer.is_good and not await self._is_there(created(call, answer)):
            raise UploadOver(f"{call.what}: the object was there, and is there no more.")
        return answer

    async def _is_there(self, made: Resource) -> bool:
        call = self._look()
        answer = await self._sender.send(call)
        if is_missing(call, answer):
            return False
        return read(call, answer, Resource).generation == made.generation

    async def _is_the_store(self) -> bool:
        """Whether it is the store that answers: not every one's word on a session bears a sign."""
        return (await self._sender.send(self._look())).is_the_stores

    # ── the parts ──────────────────────────────────────────────────────────────────────────────
    async def _send_part(self, sums: PartSums) -> Answer:
        """Send what is missing of the first part that is not there; the server's last word."""
        if self._at >= self._body.size:
            return await self._retry.run(f"end {self._key}", self._ask_for_end)
        number = self._at // PART_BYTES + 1
        part = await to_thread.run_sync(self._read_part, number, sums)
        sending = partial(self._send_rest, part, (number - 1) * PART_BYTES, sums)
        answer = await self._retry.run(f"part {number} of {self._key}", sending)
        _BEFORE_NOTE()
        await self._ledger.note_part(self._upload, number, str(self._at))
        _AFTER_NOTE()
        self._body.told(self._at)
        return answer

    def _read_part(self, number: int, sums: PartSums) -> bytes:
        start = (number - 1) * PART_BYTES
        part = read_piece(self._body, start, min(PART_BYTES, self._body.size - start))
        if hashlib.sha256(part).digest() != sum_of(sums, number):
            raise changed(self._body, "is not what it was when it was hashed")
        return part

    async def _send_rest(self, part: bytes, start: int, sums: PartSums) -> Answer:
        """Send a part from where the session is, which is asked where that is not sure."""
        end = start + len(part)
        if not self._is_sure:
            answer = await self._ask()
            if answer.is_good or not start <= self._at < end:
                return answer
        before = self._at
        headers = {"Content-Range": f"bytes {before}-{end - 1}/{self._body.size}"}
        rest = _Rest(self._body, before, memoryview(part)[before - start :])
        if end < self._body.size:
            answer = await self._step(self._call(headers, rest))
        else:
            headers["X-Goog-Hash"] = f"crc32c={written(crc32c_in(sums))}"
            _BEFORE_LAST()
            answer = await self._step(self._call(headers, rest))
            _AFTER_LAST()
        if self._at <= before:
            raise OutcomeUnknown(f"PUT {self._key}: the server takes nothing.")
        return answer

    async def _ask_for_end(self) -> Answer:
        answer = await self._ask()
        if not answer.is_good and self._at >= self._body.size:
            raise OutcomeUnknown(f"PUT {self._key}: the server has all bytes, and no object.")
        return answer

    async def _step(self, call: Call) -> Answer:
        """Send one request to the session, and take from its answer how far that is."""
        self._is_sure = False
        answer = await self._sender.send(call)
        if answer.status in _GONE and (answer.is_the_stores or await self._is_the_store()):
            raise UploadOver(f"{call.what}: the server has given the upload up.")
        if answer.is_damaged:
            raise UploadOver(f"{call.what}: other bytes arrived than were sent.")
        is_on = answer.status == 308 and "Location" not in answer.headers
        if not answer.is_good and not is_on:
            raise problem(call, answer)
        self._at = self._body.size if answer.is_good else _reached(answer)
        self._is_sure = True
        return answer

    # ── the end ────────────────────────────────────────────────────────────────────────────────
    async def _confirm(self, answer: Answer, sums: PartSums) -> None:
        try:
            await confirm(self._sender, self._call({}), answer, crc32c_in(sums))
        except OutcomeUnknown as exc:
            raise UploadOver(exc.message) from exc

    async def _give_up(self) -> None:
        await give_up(self._sender, self._retry, self._key, self._upload.name)

    def _look(self) -> Call:
        return Call(method="GET", key=self._key, query={"fields": FIELDS})

    def _call(self, headers: dict[str, str], body: bytes | Readable = b"") -> Call:
        session = self._upload.name
        return Call(method="PUT", key=self._key, headers=headers, body=body, session=session)


class _Rest:
    """What of a part is still to be sent."""

    def __init__(self, whole: FileBody, offset: int, rest: memoryview) -> None:
        self._whole = whole
        self._offset = offset
        self._rest = rest

    @property
    def size(self) -> int:
        return len(self._rest)

    def told(self, left: int) -> None:
        self._whole.told(self._offset + left)

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self._rest[offset : offset + size])


def _reached(answer: Answer) -> int:
    """How many bytes of the session are safe; where it has none, the header is missing."""
    said = _REACHED.fullmatch(answer.headers.get("Range", ""))
    return int(said[1]) + 1 if said else 0


async def give_up(sender: Sender, retry: Retry, key: str, session: str) -> None:
    """Have the server forget a session; no error where it is gone."""

    async def cancel() -> None:
        call = Call(method="DELETE", key=key, session=session)
        answer = await sender.send(call)
        if not answer.is_good and answer.status not in (*_GONE, _CANCELLED):
            raise problem(call, answer)

    await retry.run(f"give up {key}", cancel)
