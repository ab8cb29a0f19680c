"""What an artifact's latest version holds, whoever has put it there: known before small files are sent.

Owns: when a store is asked for it, that its manifest is read once, noting where its bytes lie, whether the
packs of a request are worth planning anew with what is known by now. Does not own: the plan
(``prepare.packs``), the look before the commit at what is pointed at (``commit.looking``).

A manifest's entries count when the whole of it was found to be what its version says: where another file's
bytes lie is taken from nowhere else. A pack counts when the store has shown it. Memory: two pages of entries;
a manifest that has more is read twice, once to check it. What can't be read holds nobody up.

What a kill leaves: some bytes that are known, without the mark that all of the manifest's are: the next start
reads it again.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import anyio

from wherry.errors import AccessRefused, StoreDamaged
from wherry.wire.failpoints import failpoint
from wherryd.clock import Clock
from wherryd.closing import closing, in_batches
from wherryd.log import get_logger
from wherryd.model import Lane, ManifestEntry, Place, VersionRecord
from wherryd.queue.base import Filter, Queue, Request, Sent
from wherryd.registry.base import Kind, Named
from wherryd.transfer.contact import FRESH_S, Contact
from wherryd.transfer.items import pack_record

PAGE = 1000
#: Versions below the highest among which the latest is looked for: those above it were deleted.
DEEP = 16
#: Packs that the store is asked for at once.
BATCH = 32
#: Manifests that are read at once from one store: each takes up to 10 MiB.
READ_AT_ONCE = 2
#: Blobs of this size on are asked for one by one when they are to be sent.
ASKED_BYTES = 1 << 20
#: What an entry costs: of a manifest that is read, or made again.
ENTRY_BYTES = 100

_AFTER_FOUND = failpoint("transfer.latest.after-found")
_BEFORE_NOTE = failpoint("transfer.latest.before-note")
_BEFORE_MARK = failpoint("transfer.latest.before-mark")
_AFTER_MARK = failpoint("transfer.latest.after-mark")

_log = get_logger("transfer")


def is_worth_it(bytes_: int, entries: int) -> bool:
    """Whether to send so many bytes less is worth a manifest of so many entries.

    Args:
        bytes_: that need not be sent then.
        entries: of the manifest that has to be read, or made again. A page of them costs next to nothing.
    """
    return bytes_ > 0 and (entries <= PAGE or bytes_ >= entries * ENTRY_BYTES)


class Latest:
    """Learns of latest versions, for all requests."""

    def __init__(self, queue: Queue, clock: Clock) -> None:
        self._queue = queue
        self._clock = clock
        self._looks: dict[Lane, _Look] = {}
        self._limits = defaultdict[str, anyio.Semaphore](lambda: anyio.Semaphore(READ_AT_ONCE))

    async def would_help(
        self,
        request: Request,
        own: Mapping[str, int],
        contact: Contact,
        is_leaving: Callable[[], bool],
    ) -> bool:
        """Learn what the latest version holds; whether the request's packs should be planned anew.

        Args:
            own: the packs that it makes: sizes by name (``<hex>``).
            is_leaving: whether to stop in the middle.

        Raises ``StoreError``, ``Exchanged`` among them, where the store can't be asked.
        """
        there = await self._queue.sent_already(request.lane, [*map(pack_record, own)])
        to_send = {pack: size for pack, size in own.items() if pack_record(pack) not in there}
        if not to_send:
            return False
        await self._learn(request.lane, sum(to_send.values()), contact, is_leaving)
        return is_worth_it(await self._known_bytes(request, own, to_send), request.entries)

    def forget(self, address: str) -> None:
        """Look again: the user has said that the store at this address is to be tried."""
        for lane, look in self._looks.items():
            if lane.store == address:
                look.forget()

    async def _known_bytes(
        self, request: Request, own: Mapping[str, int], to_send: Mapping[str, int]
    ) -> int:
        """Bytes of packs that are to be sent which the store is known to have elsewhere."""
        known_bytes, after = 0, None
        while page := await self._queue.entries(request.row, after, PAGE):
            sizes = {
                each.digest: each.size for each in page if each.digest and each.pack in to_send
            }
            places = await self._queue.places(request.lane, [*sizes]) if sizes else {}
            known_bytes += sum(sizes[digest] for digest in places if places[digest].pack not in own)
            if len(page) < PAGE:
                break
            after = page[-1].path
        return known_bytes

    # ── the latest version ─────────────────────────────────────────────────────────────────────
    async def _learn(
        self, lane: Lane, bytes_: int, contact: Contact, is_leaving: Callable[[], bool]
    ) -> None:
        look = self._look_at(lane)
        async with look.lock:
            now = self._clock.monotonic()
            if look.store_id != contact.store_id:
                look.forget()
            if now - look.at < FRESH_S:
                return
            try:
                await self._read_latest(lane, bytes_, contact, look, is_leaving)
            except (StoreDamaged, AccessRefused) as error:
                _log.warning("latest version not read", name=lane.name, error=str(error))
            look.store_id, look.at = contact.store_id, now

    def _look_at(self, lane: Lane) -> _Look:
        """The lane's; those of lanes that nobody has looked at lately are forgotten."""
        if len(self._looks) > PAGE:
            now = self._clock.monotonic()
            kept = {
                lane: look
                for lane, look in self._looks.items()
                if look.lock.locked() or now - look.at < FRESH_S
            }
            self._looks = kept
        return self._looks.setdefault(lane, _Look())

    async def _read_latest(
        self,
        lane: Lane,
        bytes_: int,
        contact: Contact,
        look: _Look,
        is_leaving: Callable[[], bool],
    ) -> None:
        record = await self._find(lane, contact)
        _AFTER_FOUND()
        if record is None or record.manifest == look.manifest:
            return
        mark = f"manifest:{record.manifest}"
        if not await self._is_known(lane, record, mark):
            if not is_worth_it(bytes_, record.entries):
                return
            async with self._limits[lane.store]:
                if not await self._note(lane, record, contact, is_leaving):
                    return
            _BEFORE_MARK()
            await self._queue.note_sent(lane, [Sent(mark, record.size)], contact.store_id)
            _AFTER_MARK()
        look.manifest = record.manifest

    async def _find(self, lane: Lane, contact: Contact) -> VersionRecord | None:
        """The highest version that is not deleted."""
        known = await self._queue.known(lane)
        registry, after = contact.registry, max(known.highest - DEEP, -1)
        stamps = await registry.list_versions(lane.project, lane.name, after)
        numbers = [stamp.version for stamp in reversed(stamps[-DEEP:])]
        for some in (numbers[:1], numbers[1:]):
            if not some:
                break
            found = await registry.read_versions(lane.project, lane.name, some, contact.store_id)
            for stored in found:
                if stored is not None and isinstance(stored.record, VersionRecord):
                    return stored.record
        return None

    async def _is_known(self, lane: Lane, record: VersionRecord, mark: str) -> bool:
        """Whether this home has put the version's bytes itself, or has read its manifest."""
        if any(each.base is None for each in await self._queue.find(Filter(ids=(record.request,)))):
            return True
        return bool(await self._queue.sent_already(lane, [mark]))

    # ── its manifest ───────────────────────────────────────────────────────────────────────────
    async def _note(
        self, lane: Lane, record: VersionRecord, contact: Contact, is_leaving: Callable[[], bool]
    ) -> bool:
        """Note where a version's bytes lie; False where the daemon is about to end."""
        first: list[ManifestEntry] = []
        is_all = True
        async with closing(_pages(contact, lane, record)) as unproven:
            async for page in unproven:
                is_all = not first
                first = first or page
                if is_leaving():
                    return False
        if is_all:
            await self._note_page(lane, first, contact)
            return True
        async with closing(_pages(contact, lane, record)) as proven:
            async for page in proven:
                await self._note_page(lane, page, contact)
                if is_leaving():
                    return False
        return True

    async def _note_page(self, lane: Lane, page: Sequence[ManifestEntry], contact: Contact) -> None:
        entries = {entry.digest: entry for entry in page if entry.digest and _is_told(entry)}
        if not entries:
            return
        known = await self._queue.places(lane, [*entries])
        news = [entry for digest, entry in entries.items() if digest not in known]
        sizes = await self._pack_sizes(lane, {entry.pack for entry in news if entry.pack}, contact)
        sent = [Sent(pack_record(pack), size) for pack, size in sizes.items()]
        sent += [_sent(entry) for entry in news if _lies_in(entry, sizes)]
        _BEFORE_NOTE()
        await self._queue.note_sent(lane, sent, contact.store_id)

    async def _pack_sizes(self, lane: Lane, packs: set[str], contact: Contact) -> dict[str, int]:
        """Bytes of packs, as far as the store has them."""
        noted = await self._queue.done_records(lane, [*map(pack_record, packs)])
        sizes = {
            pack: noted[pack_record(pack)].size for pack in packs if pack_record(pack) in noted
        }
        asked = [Named(Kind.PACK, pack) for pack in sorted(packs - sizes.keys())]
        for start in range(0, len(asked), BATCH):
            batch = asked[start : start + BATCH]
            found = await contact.registry.sizes(lane.project, batch, contact.store_id)
            sizes |= {
                named.name: size
                for named, size in zip(batch, found, strict=True)
                if size is not None
            }
        return sizes


class _Look:
    """What was looked at last in a lane."""

    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.store_id = ""
        self.forget()

    def forget(self) -> None:
        """Look again at the next request."""
        self.at = -math.inf
        self.manifest = ""  # of the version whose bytes are known


def _pages(
    contact: Contact, lane: Lane, record: VersionRecord
) -> AsyncIterator[list[ManifestEntry]]:
    """A manifest's entries; its digest is checked behind the last."""
    return in_batches(contact.registry.open_manifest(lane.project, record.manifest), PAGE)


def _is_told(entry: ManifestEntry) -> bool:
    """Whether to know it spares a question or a pack: it is no reference, and no large blob."""
    return entry.ref is None and (entry.pack is not None or (entry.size or 0) < ASKED_BYTES)


def _lies_in(entry: ManifestEntry, sizes: Mapping[str, int]) -> bool:
    """Whether the object is there that holds the entry's bytes, as far as it was asked for."""
    if entry.pack is None:
        return True
    return (entry.offset or 0) + (entry.size or 0) <= sizes.get(entry.pack, -1)


def _sent(entry: ManifestEntry) -> Sent:
    assert entry.digest is not None
    return Sent(entry.digest, entry.size or 0, Place(entry.pack, entry.offset or 0))
