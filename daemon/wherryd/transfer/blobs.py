"""The bytes of one request's entries, into its store.

Owns: which bytes have to be sent, many at once; noting them as sent when they would survive a power
loss. Does not own: the limit over all requests (``slots``), pauses after errors (``stage``).

What a kill leaves: objects in the store that nobody names yet, perhaps noted. The next start asks the
store for those that are not noted, and sends what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio
import msgspec

from wherry.wire.failpoints import failpoint
from wherryd.model import Entry
from wherryd.progress import Progress
from wherryd.queue.base import Queue, Request
from wherryd.transfer.bodies import entry_body
from wherryd.transfer.contact import Contact
from wherryd.transfer.slots import Slots

PAGE = 1000

_BEFORE_PUT = failpoint("transfer.blob.before-put")
_AFTER_PUT = failpoint("transfer.blob.after-put")
_BEFORE_SYNC = failpoint("transfer.blobs.before-sync")
_BEFORE_NOTE = failpoint("transfer.blobs.before-note")
_AFTER_NOTE = failpoint("transfer.blobs.after-note")


class Leaving(Exception):
    """The daemon is about to end; the next one goes on here."""


class Job(msgspec.Struct, frozen=True):
    """One try to send what a request names."""

    request: Request
    contact: Contact
    is_leaving: Callable[[], bool]
    went_well: Callable[[], None]  # told of each answer of the store


class Blobs:
    """Sends entries' bytes, for all requests."""

    def __init__(self, queue: Queue, slots: Slots, progress: Progress) -> None:
        self._queue = queue
        self._slots = slots
        self._progress = progress

    async def send(self, job: Job) -> None:
        """Put all bytes that the store does not have; synced and noted when this returns.

        The manifest must be in the store already. Raises ``StoreError`` (``StoreChanged`` among them);
        ``FileChanged`` or ``FileUnreadable`` where the bytes are not what was captured; ``Leaving``.
        """
        page = await self._queue.entries(job.request.row, None, PAGE)
        await self._send_page(job, page)
        while len(page) == PAGE:
            page = await self._queue.entries(job.request.row, page[-1].path, PAGE)
            await self._send_page(job, page)

    async def _send_page(self, job: Job, page: Sequence[Entry]) -> None:
        wanted = {entry.digest or "": entry for entry in page if entry.source is not None}
        known: set[str] = set()
        if wanted:
            known = await self._queue.sent_already(job.request.lane, list(wanted))
        left = [entry for digest, entry in wanted.items() if digest not in known]
        self._count_rest(job, page, left)
        sent = _Sent()
        try:
            await self._send_all(job, left, sent)
        finally:
            await self._note(job, sent.entries)
        sent.raise_error()

    async def _send_all(self, job: Job, entries: Sequence[Entry], sent: _Sent) -> None:
        others: list[Entry] = []
        async with anyio.create_task_group() as tasks:
            for entry in entries:
                if sent.error is not None or job.is_leaving():
                    break
                if self._slots.flying(self._key(job, entry)):
                    others.append(entry)
                    continue
                await self._slots.take(self._key(job, entry), entry.size)
                tasks.start_soon(self._send_one, job, entry, sent)
        if job.is_leaving():
            raise Leaving
        if others and sent.error is None:
            await self._await_others(job, others)
            await self._send_all(job, others, sent)

    async def _await_others(self, job: Job, entries: Sequence[Entry]) -> None:
        """Wait for other requests' transfers of the same bytes; whether they went well is asked then."""
        for entry in entries:
            while flying := self._slots.flying(self._key(job, entry)):
                await flying.wait()

    async def _send_one(self, job: Job, entry: Entry, sent: _Sent) -> None:
        try:
            with self._progress.moving(job.request.row) as told:
                await self._put(job, entry, told)
        except Exception as error:  # noqa: BLE001  (raised again when the others have ended)
            sent.error = sent.error or error
        else:
            job.went_well()
            sent.entries.append(entry)
            self._progress.add(job.request.row, entry.size)
        finally:
            self._slots.give_back(self._key(job, entry), entry.size)

    async def _put(self, job: Job, entry: Entry, told: Callable[[int], None]) -> None:
        assert entry.digest is not None
        registry, project = job.contact.registry, job.request.lane.project
        if await registry.has_blob(project, entry.digest, entry.size):
            return
        _BEFORE_PUT()
        await registry.put_blob(project, entry.digest, entry_body(entry, told))
        _AFTER_PUT()

    async def _note(self, job: Job, entries: Sequence[Entry]) -> None:
        """Sync first: whoever trusts a note must not lose the bytes with the power."""
        request, contact = job.request, job.contact
        digests = [entry.digest for entry in entries if entry.digest is not None]
        assert request.manifest is not None
        _BEFORE_SYNC()
        await contact.registry.sync(request.lane.project, digests, request.manifest)
        await contact.check_same()
        if not entries:
            return
        _BEFORE_NOTE()
        blobs = [(entry.digest, entry.size) for entry in entries if entry.digest is not None]
        await self._queue.note_sent(request.lane, blobs, contact.counting_id)
        _AFTER_NOTE()

    def _count_rest(self, job: Job, page: Sequence[Entry], left: Sequence[Entry]) -> None:
        """What needs no sending is done: references, known bytes, the same bytes a second time."""
        rest = sum(entry.size for entry in page) - sum(entry.size for entry in left)
        self._progress.add(job.request.row, rest)

    def _key(self, job: Job, entry: Entry) -> tuple[str, str, str]:
        lane = job.request.lane
        return lane.store, lane.project, entry.digest or ""


class _Sent:
    """What became of a page: the entries that are in the store, and the first error."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.error: Exception | None = None

    def raise_error(self) -> None:
        if self.error is not None:
            raise self.error
