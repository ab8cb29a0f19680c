"""All that one request's version names, into its store.

Owns: which bytes have to be sent, many at once; knowing that they are in the store that counts, and would
survive a power loss, before they are noted as sent. Does not own: the limit over all requests (``slots``),
making contact (``contact``), pauses after errors (``stage``).

What lies at an address may be exchanged while bytes go there: a disk that is unmounted, another server. So
what was put counts only after ``Registry.sync`` has said that the store is the one it was meant for. A folder
proves more with it, that all of it is in there. An object store could have been another for a moment in
between: where it was not asked shortly before, or anything went wrong since, all is gone through again, which
costs a question for each object, until nothing is missing. Where a page takes long, what has come in is
proven and noted meanwhile, so that the spool need not wait for the rest.

What a kill leaves: objects in the store that nobody names yet, perhaps noted. The next start asks the
store for those that are not noted, and sends what is missing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import anyio
import msgspec

from wherry.wire.failpoints import failpoint
from wherryd.clock import Clock
from wherryd.progress import Progress
from wherryd.queue.base import Queue, Request, Sent, WrongState
from wherryd.stores.base import FileBody, Ledger
from wherryd.stores.parts import wants_parts
from wherryd.transfer.bodies import Astray, entry_body, pack_body
from wherryd.transfer.contact import Contact, Contacts
from wherryd.transfer.emptying import LEAST_BYTES, Emptying
from wherryd.transfer.items import Gatherer, Item, Taken, pack_record
from wherryd.transfer.latest import Latest
from wherryd.transfer.ledger import QueueLedger
from wherryd.transfer.slots import Slots

PAGE = 1000
#: What has fewer bytes is put without a question: putting it again costs no more.
SMALL_BYTES = 16 << 10
#: So much is noted in the change that follows from it.
FEW_SENT = 32
#: In the middle of a page, what comes in within this time is proven together.
PROVE_S = 1.0

_AFTER_MANIFEST = failpoint("transfer.manifest.after-put")
_BEFORE_PUT = failpoint("transfer.blob.before-put")
_AFTER_PUT = failpoint("transfer.blob.after-put")
_BEFORE_PACK = failpoint("transfer.pack.before-put")
_AFTER_PACK = failpoint("transfer.pack.after-put")
_BEFORE_SYNC = failpoint("transfer.blobs.before-sync")
_BEFORE_NOTE = failpoint("transfer.blobs.before-note")
_AFTER_NOTE = failpoint("transfer.blobs.after-note")


class Leaving(Exception):
    """The daemon is about to end; the next one goes on here."""


class Job(msgspec.Struct, frozen=True):
    """One try to send what a request names."""

    request: Request
    contact: Contact
    manifest: (
        FileBody | None
    )  # None: the request has a base, and no manifest yet that a version could name
    emptying: Emptying
    is_leaving: Callable[[], bool]
    went_well: Callable[[], Awaitable[None]]  # told of each answer of the store

    @property
    def project(self) -> str:
        """Whose bytes they are."""
        return self.request.lane.project


class Came(msgspec.Struct, frozen=True):
    """What sending came to."""

    is_own: bool  # it has put all that the request names: nothing was there
    sent: Sequence[Sent]  # is there, and not noted yet


class Blobs:
    """Sends manifests and entries' bytes, for all requests."""

    def __init__(
        self, queue: Queue, contacts: Contacts, slots: Slots, progress: Progress, clock: Clock
    ) -> None:
        self._queue = queue
        self._contacts = contacts
        self._slots = slots
        self._progress = progress
        self._clock = clock
        self._latest = Latest(queue, clock)

    def forget(self, address: str) -> None:
        """Look again at what the store at this address has."""
        self._latest.forget(address)

    async def send(self, job: Job) -> Came:
        """Put the manifest and all bytes that the store does not have; proven when this returns, and noted,
        but for what is given back to be noted.

        Raises ``StoreError``, ``Exchanged`` among them; ``FileChanged`` or ``FileUnreadable`` where the bytes
        are not what was captured; ``Leaving``; ``Astray``; ``WrongState`` where another store counts by now.
        """
        # One file has no company, so that no pack is made: most requests of a loop need not ask.
        own = await self._queue.packs(job.request.row) if job.request.entries > 1 else {}
        await self._check_plan(job, own)
        gatherer, is_own = Gatherer(own), True
        page = await self._queue.entries(job.request.row, None, PAGE)
        while len(page) == PAGE:
            is_own &= (await self._send_page(job, gatherer.take(page), is_last=False)).is_own
            page = await self._queue.entries(job.request.row, page[-1].path, PAGE)
        taken = gatherer.take(page)
        if not gatherer.is_done:
            raise Astray("the files of a pack are not all there")
        came = await self._send_page(job, taken, is_last=True)
        return Came(came.is_own and is_own, came.sent)

    async def _check_plan(self, job: Job, own: Mapping[str, int]) -> None:
        """Raise ``Astray`` where the store has by now what the request is about to pack, ``Leaving``."""
        would_help = self._latest.would_help
        if own and await would_help(job.request, own, job.contact, job.is_leaving):
            raise Astray("the store has files elsewhere that it packs")
        if job.is_leaving():
            raise Leaving

    async def _send_page(self, job: Job, taken: Taken, *, is_last: bool) -> Came:
        known = await self._known(job, taken)
        left = [item for item in taken.items if item.name not in known]
        done = taken.free + sum(item.carried for item in taken.items if item.name in known)
        self._progress.add(job.request.row, done)
        todo = _Page(left, with_manifest=is_last and job.manifest is not None)
        sent: list[Sent] = []
        if left or is_last:
            while not await self._is_through(job, todo):
                pass
            sent = todo.sent(job.request.row, todo.items)
            if not is_last or len(sent) > FEW_SENT:
                await self._note(job, sent)
                sent = []
            job.emptying.confirm(todo.put_by_us(todo.items))
            if not is_last:  # the last is counted when the request is uploaded
                await job.emptying.empty()
        return Came(todo.is_own and not known and not taken.pointed, sent)

    async def _known(self, job: Job, taken: Taken) -> set[str]:
        """Names of what the store has. Raises ``Astray``."""
        pointed = {pack_record(pack) for pack in taken.pointed}
        names = [*(item.name for item in taken.items), *pointed]
        known = await self._queue.sent_already(job.request.lane, names) if names else set()
        if lost := pointed - known:
            raise Astray(
                f"{len(lost)} packs that were there, and that the manifest points at, are not"
            )
        return known

    async def _is_through(self, job: Job, page: _Page) -> bool:
        """Put what is not there yet; whether all of the page is known now to be in the store that counts."""
        contact = await self._contacts.for_writing(job.contact.address)
        if contact.store_id != job.contact.store_id:
            raise WrongState("another store counts by now")
        since = self._contacts.moment(contact.address)
        page.begin()
        if page.with_manifest:
            await self._send_manifest(job, page)
        await self._send_all(job, page.items, page)
        page.raise_error()
        await self._prove(job, page.items, with_manifest=page.with_manifest)
        return page.puts == 0 or self._contacts.is_unbroken(contact.address, since)

    async def _prove(self, job: Job, items: Sequence[Item], *, with_manifest: bool) -> None:
        digests = [item.name for item in items if item.pack is None]
        packs = [item.pack for item in items if item.pack is not None]
        manifests = [job.request.manifest or ""] if with_manifest else []
        _BEFORE_SYNC()
        await job.contact.registry.sync(
            job.project, digests, manifests, job.contact.store_id, packs
        )

    # ── one object ─────────────────────────────────────────────────────────────────────────────
    async def _send_manifest(self, job: Job, page: _Page) -> None:
        registry, manifest, body = job.contact.registry, job.request.manifest or "", job.manifest
        assert body is not None
        async with self._slots.one():
            is_asked = page.is_asked(manifest, body.size)
            if not is_asked or not await registry.has_manifest(job.project, manifest, body.size):
                await registry.put_manifest(job.project, manifest, body)
                page.note_put(manifest)
        await job.went_well()
        _AFTER_MANIFEST()

    async def _send_all(self, job: Job, items: Sequence[Item], page: _Page) -> None:
        others: list[Item] = []
        async with anyio.create_task_group() as beside:
            if len(items) > 1 and sum(item.size for item in items) >= LEAST_BYTES:
                beside.start_soon(self._prove_meanwhile, job, page)
            async with anyio.create_task_group() as tasks:
                for item in items:
                    if page.error is not None or job.is_leaving():
                        break
                    if self._slots.flying(self._key(job, item)):
                        others.append(item)
                        continue
                    await self._slots.take(self._key(job, item), item.size)
                    tasks.start_soon(self._send_one, job, item, page)
            beside.cancel_scope.cancel()
        if job.is_leaving():
            raise Leaving
        if others and page.error is None:
            await self._await_others(job, others)
            page.may_have(others)
            await self._send_all(job, others, page)

    async def _await_others(self, job: Job, items: Sequence[Item]) -> None:
        """Wait for other requests' transfers of the same bytes; whether they went well is asked then."""
        for item in items:
            while flying := self._slots.flying(self._key(job, item)):
                await flying.wait()

    async def _send_one(self, job: Job, item: Item, page: _Page) -> None:
        try:
            with self._progress.moving(job.request.row, is_spooled=item.is_spooled) as told:
                is_ours = await self._put(job, item, page, told)
            if is_ours:
                page.landed(item)
            await job.went_well()
        except Exception as error:  # noqa: BLE001  (raised again when the others have ended)
            page.error = page.error or error
        else:
            if page.rounds == 1:
                self._progress.add(job.request.row, item.carried)
        finally:
            self._slots.give_back(self._key(job, item), item.size)

    async def _prove_meanwhile(self, job: Job, page: _Page) -> None:
        """Let what has come in leave the spool, while the rest of the page is on its way; until cancelled."""
        while page.error is None:
            await page.wait_fresh()
            await self._clock.sleep(PROVE_S)
            with anyio.CancelScope(shield=True):
                await self._prove_some(job, page)

    async def _prove_some(self, job: Job, page: _Page) -> None:
        """Prove and note what has come in.

        Each is asked for once more, as where a page is gone through again; what is missing is the next
        round's.
        """
        items = page.take_fresh()
        try:
            if not all([await self._has(job, item) for item in items]):
                return
            await self._prove(job, items, with_manifest=False)
            await self._note(job, page.sent(job.request.row, items))
            names = [item.name for item in items]
            noted = await self._queue.sent_already(job.request.lane, names)
            proven = [item for item in items if item.name in noted]
            page.take_out(proven)
            job.emptying.confirm(proven)
            await job.emptying.empty()
        except Exception as error:  # noqa: BLE001  (as above)
            page.error = page.error or error

    async def _put(self, job: Job, item: Item, page: _Page, told: Callable[[int], None]) -> bool:
        """Put a blob or a pack; False where the store, if it is asked, has it."""
        # asked once in a while: not to fill another store, or the disk below a mount point
        await self._contacts.for_writing(job.contact.address)
        if page.is_asked(item.name, item.size) and await self._has(job, item):
            return False
        if item.pack is not None:
            await self._put_pack(job, item, item.pack, told)
            return True
        registry = job.contact.registry
        _BEFORE_PUT()
        ledger = self._ledger(job, item) if wants_parts(job.contact.address, item.size) else None
        await registry.put_blob(job.project, item.name, entry_body(item.entries[0], told, ledger))
        _AFTER_PUT()
        return True

    def _ledger(self, job: Job, item: Item) -> Ledger:
        store_id = job.contact.store_id
        return QueueLedger(self._queue, self._slots, job.request, item.name, store_id)

    async def _has(self, job: Job, item: Item) -> bool:
        """Ask the store whether it has a blob or a pack."""
        registry = job.contact.registry
        if item.pack is not None:
            return await registry.has_pack(job.project, item.pack, item.size)
        return await registry.has_blob(job.project, item.name, item.size)

    async def _put_pack(self, job: Job, item: Item, pack: str, told: Callable[[int], None]) -> None:
        registry = job.contact.registry
        _BEFORE_PACK()
        await registry.put_pack(job.project, pack, pack_body(item.entries, item.size, pack, told))
        _AFTER_PACK()

    # ── what is known then ─────────────────────────────────────────────────────────────────────
    async def _note(self, job: Job, sent: Sequence[Sent]) -> None:
        if not sent:
            return
        _BEFORE_NOTE()
        await self._queue.note_sent(job.request.lane, sent, job.contact.store_id)
        _AFTER_NOTE()

    def _key(self, job: Job, item: Item) -> tuple[str, str, str]:
        lane = job.request.lane
        return lane.store, lane.project, item.name


class _Page:
    """What has to be in the store, and what became of it in this round."""

    def __init__(self, items: Sequence[Item], *, with_manifest: bool) -> None:
        self.items = items  # that are not proven yet
        self.with_manifest = with_manifest
        self.rounds = 0
        self.puts = 0
        self.error: Exception | None = None
        self._count = len(items)
        self._put: set[str] = set()  # in any round
        self._sent_by_others: set[str] = set()
        self._fresh: list[Item] = []
        self._has_fresh = anyio.Event()

    def begin(self) -> None:
        """Begin a round."""
        self.rounds += 1
        self.puts = 0
        self.take_fresh()

    @property
    def is_own(self) -> bool:
        """Whether nothing of it was there."""
        return len(self._put) == self._count + self.with_manifest

    def may_have(self, items: Sequence[Item]) -> None:
        """Others have sent these, it seems."""
        self._sent_by_others.update(item.name for item in items)

    def is_asked(self, name: str, size: int) -> bool:
        """Whether the store is asked for an object, of so many bytes, before it is put."""
        return self.rounds > 1 or size >= SMALL_BYTES or name in self._sent_by_others

    def note_put(self, name: str) -> None:
        """An object, or the manifest, was put."""
        self.puts += 1
        self._put.add(name)

    def landed(self, item: Item) -> None:
        """An object was put: what holds its bytes may leave the spool."""
        self.note_put(item.name)
        self._fresh.append(item)
        self._has_fresh.set()

    def has_put(self, item: Item) -> bool:
        """Whether this try has put it, in whatever round, and not found it there."""
        return item.name in self._put

    def sent(self, row: int, items: Sequence[Item]) -> list[Sent]:
        """What there is to note of these items, which the request in this row has put, or found there."""
        return [each for item in items for each in item.sent(row if self.has_put(item) else None)]

    def put_by_us(self, items: Sequence[Item]) -> list[Item]:
        """Those of the items that this try has put."""
        return [item for item in items if self.has_put(item)]

    async def wait_fresh(self) -> None:
        """Return when something was put since ``take_fresh``."""
        await self._has_fresh.wait()

    def take_fresh(self) -> list[Item]:
        """Give what was put in this round since the last call."""
        fresh, self._fresh, self._has_fresh = self._fresh, [], anyio.Event()
        return fresh

    def take_out(self, items: Sequence[Item]) -> None:
        """Forget what is proven and noted."""
        names = {item.name for item in items}
        self.items = [item for item in self.items if item.name not in names]

    def raise_error(self) -> None:
        if self.error is not None:
            raise self.error
