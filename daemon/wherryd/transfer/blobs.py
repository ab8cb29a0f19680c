"""All that one request's version names, into its store.

Owns: which bytes have to be sent, many at once; knowing that they are in the store that counts, and would
survive a power loss, before they are noted as sent. Does not own: the limit over all requests (``slots``),
making contact (``contact``), pauses after errors (``stage``).

What lies at an address may be exchanged while bytes go there: a disk that is unmounted, another server. So
what was put counts only after ``Registry.sync`` has said that the store is the one it was meant for. A folder
proves more with it, that all of it is in there. An object store could have been another for a moment in
between: where it was not asked shortly before, or anything went wrong since, all is gone through again, which
costs a question for each object, until nothing is missing.

What a kill leaves: objects in the store that nobody names yet, perhaps noted. The next start asks the
store for those that are not noted, and sends what is missing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import anyio
import msgspec

from wherry.wire.failpoints import failpoint
from wherryd.model import Entry
from wherryd.progress import Progress
from wherryd.queue.base import Queue, Request, WrongState
from wherryd.stores.base import FileBody
from wherryd.transfer.bodies import entry_body
from wherryd.transfer.contact import Contact, Contacts
from wherryd.transfer.slots import Slots

PAGE = 1000
#: Manifests below this many bytes are put without a question: putting one again costs no more.
SMALL_BYTES = 16 << 10

_AFTER_MANIFEST = failpoint("transfer.manifest.after-put")
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
    manifest: FileBody
    is_leaving: Callable[[], bool]
    went_well: Callable[[], Awaitable[None]]  # told of each answer of the store

    @property
    def project(self) -> str:
        """Whose bytes they are."""
        return self.request.lane.project


class Blobs:
    """Sends manifests and entries' bytes, for all requests."""

    def __init__(self, queue: Queue, contacts: Contacts, slots: Slots, progress: Progress) -> None:
        self._queue = queue
        self._contacts = contacts
        self._slots = slots
        self._progress = progress

    async def send(self, job: Job) -> None:
        """Put the manifest and all bytes that the store does not have; proven and noted when this returns.

        Raises ``StoreError``, ``Exchanged`` among them; ``FileChanged`` or ``FileUnreadable`` where the bytes
        are not what was captured; ``Leaving``; ``WrongState`` where another store counts by now.
        """
        page = await self._queue.entries(job.request.row, None, PAGE)
        while len(page) == PAGE:
            await self._send_page(job, page, is_last=False)
            page = await self._queue.entries(job.request.row, page[-1].path, PAGE)
        await self._send_page(job, page, is_last=True)

    async def _send_page(self, job: Job, page: Sequence[Entry], *, is_last: bool) -> None:
        wanted = {entry.digest or "": entry for entry in page if entry.source is not None}
        known: set[str] = set()
        if wanted:
            known = await self._queue.sent_already(job.request.lane, list(wanted))
        left = [entry for digest, entry in wanted.items() if digest not in known]
        self._count_rest(job, page, left)
        if left or is_last:
            todo = _Page(left, with_manifest=is_last)
            while not await self._is_through(job, todo):
                pass
            await self._note(job, left)

    async def _is_through(self, job: Job, page: _Page) -> bool:
        """Put what is not there yet; whether all of the page is known now to be in the store that counts."""
        contact = await self._contacts.for_writing(job.contact.address)
        if contact.store_id != job.contact.store_id:
            raise WrongState("another store counts by now")
        since = self._contacts.moment(contact.address)
        page.begin()
        if page.with_manifest:
            await self._send_manifest(job, page)
        await self._send_all(job, page.entries, page)
        page.raise_error()
        await self._prove(job, page)
        return page.puts == 0 or self._contacts.is_unbroken(contact.address, since)

    async def _prove(self, job: Job, page: _Page) -> None:
        digests = [entry.digest for entry in page.entries if entry.digest is not None]
        manifests = [job.request.manifest or ""] if page.with_manifest else []
        _BEFORE_SYNC()
        await job.contact.registry.sync(job.project, digests, manifests, job.contact.store_id)

    # ── one object ─────────────────────────────────────────────────────────────────────────────
    async def _send_manifest(self, job: Job, page: _Page) -> None:
        registry, manifest, body = job.contact.registry, job.request.manifest or "", job.manifest
        async with self._slots.one():
            is_asked = page.rounds > 1 or body.size >= SMALL_BYTES
            if not is_asked or not await registry.has_manifest(job.project, manifest, body.size):
                await registry.put_manifest(job.project, manifest, body)
                page.puts += 1
        await job.went_well()
        _AFTER_MANIFEST()

    async def _send_all(self, job: Job, entries: Sequence[Entry], page: _Page) -> None:
        others: list[Entry] = []
        async with anyio.create_task_group() as tasks:
            for entry in entries:
                if page.error is not None or job.is_leaving():
                    break
                if self._slots.flying(self._key(job, entry)):
                    others.append(entry)
                    continue
                await self._slots.take(self._key(job, entry), entry.size)
                tasks.start_soon(self._send_one, job, entry, page)
        if job.is_leaving():
            raise Leaving
        if others and page.error is None:
            await self._await_others(job, others)
            await self._send_all(job, others, page)

    async def _await_others(self, job: Job, entries: Sequence[Entry]) -> None:
        """Wait for other requests' transfers of the same bytes; whether they went well is asked then."""
        for entry in entries:
            while flying := self._slots.flying(self._key(job, entry)):
                await flying.wait()

    async def _send_one(self, job: Job, entry: Entry, page: _Page) -> None:
        try:
            with self._progress.moving(job.request.row) as told:
                page.puts += await self._put(job, entry, told)
            await job.went_well()
        except Exception as error:  # noqa: BLE001  (raised again when the others have ended)
            page.error = page.error or error
        else:
            if page.rounds == 1:
                self._progress.add(job.request.row, entry.size)
        finally:
            self._slots.give_back(self._key(job, entry), entry.size)

    async def _put(self, job: Job, entry: Entry, told: Callable[[int], None]) -> bool:
        """Put a blob; False where the store has it."""
        assert entry.digest is not None
        # asked once in a while: not to fill another store, or the disk below a mount point
        await self._contacts.for_writing(job.contact.address)
        registry = job.contact.registry
        if await registry.has_blob(job.project, entry.digest, entry.size):
            return False
        _BEFORE_PUT()
        await registry.put_blob(job.project, entry.digest, entry_body(entry, told))
        _AFTER_PUT()
        return True

    # ── what is known then ─────────────────────────────────────────────────────────────────────
    async def _note(self, job: Job, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        _BEFORE_NOTE()
        blobs = [(entry.digest, entry.size) for entry in entries if entry.digest is not None]
        await self._queue.note_sent(job.request.lane, blobs, job.contact.store_id)
        _AFTER_NOTE()

    def _count_rest(self, job: Job, page: Sequence[Entry], left: Sequence[Entry]) -> None:
        """What needs no sending is done: references, known bytes, the same bytes a second time."""
        rest = sum(entry.size for entry in page) - sum(entry.size for entry in left)
        self._progress.add(job.request.row, rest)

    def _key(self, job: Job, entry: Entry) -> tuple[str, str, str]:
        lane = job.request.lane
        return lane.store, lane.project, entry.digest or ""


class _Page:
    """What has to be in the store, and what became of it in this round."""

    def __init__(self, entries: Sequence[Entry], *, with_manifest: bool) -> None:
        self.entries = entries
        self.with_manifest = with_manifest
        self.rounds = 0
        self.puts = 0
        self.error: Exception | None = None

    def begin(self) -> None:
        """Begin a round."""
        self.rounds += 1
        self.puts = 0

    def raise_error(self) -> None:
        if self.error is not None:
            raise self.error
