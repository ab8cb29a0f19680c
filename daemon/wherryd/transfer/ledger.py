"""What the queue keeps of one blob's upload in parts (``stores.base.Ledger``).

Owns: which request and store a part belongs to, room for further parts. Does not own: the steps (``stores``).
"""

from __future__ import annotations

from wherryd.model import PartSums, Upload
from wherryd.queue.base import Queue, Request
from wherryd.transfer.slots import Slots


class QueueLedger:
    """The ledger of one blob.

    Args:
        request: that sends it.
        digest: of the blob.
        store_id: of the store that counts.
    """

    def __init__(
        self, queue: Queue, slots: Slots, request: Request, digest: str, store_id: str
    ) -> None:
        self._queue = queue
        self._slots = slots
        self._request = request
        self._digest = digest
        self._store_id = store_id

    async def sums(self) -> PartSums | None:
        return await self._queue.part_sums(self._request.row, self._digest)

    async def keep_sums(self, sums: PartSums) -> None:
        await self._queue.keep_part_sums(self._request.row, self._digest, sums)

    async def take(self) -> Upload | None:
        return await self._queue.take_upload(self._request.row, self._request.lane, self._digest)

    async def begin(self, name: str, part_bytes: int) -> Upload:
        request = self._request
        return await self._queue.begin_upload(
            request.row, request.lane, self._digest, self._store_id, name, part_bytes
        )

    async def note_part(self, upload: Upload, number: int, etag: str) -> None:
        await self._queue.note_part(upload.number, number, etag)

    async def forget(self, upload: Upload) -> None:
        await self._queue.forget_upload(upload.number)

    def take_room(self) -> bool:
        return self._slots.take_further()

    def give_room(self) -> None:
        self._slots.give_further()
