"""``CollectUploads``: what was begun in a store and nobody goes on with.

Owns: which uploads count as nobody's. Does not own: those that the queue knows (``transfer.given_up``).
"""

from __future__ import annotations

from contextlib import aclosing

from wherry.wire import wherry_pb2 as pb
from wherryd.clock import Clock, rfc3339
from wherryd.opened import OpenedStores
from wherryd.queue.base import Queue
from wherryd.rpc.messages import store_of
from wherryd.rpc.service import Send


class CollectingCalls:
    """The calls.

    Args:
        default_store: for clients that name none.
    """

    def __init__(
        self, stores: OpenedStores, queue: Queue, default_store: str, clock: Clock
    ) -> None:
        self._stores = stores
        self._queue = queue
        self._default_store = default_store
        self._clock = clock

    async def collect_uploads(self, request: pb.CollectUploadsRequest, send: Send) -> None:
        """Uploads in parts that began before this, and that this home does not go on with.

        Another home may: nothing in a store tells. So it is their age that tells, and the user who says.
        """
        address = store_of(request.store, self._default_store)
        registry = await self._stores.registry(address)
        before = self._clock.now() - request.older_than_s
        own = await self._queue.uploads_at(address)
        async with aclosing(registry.list_uploads()) as uploads:
            async for upload in uploads:
                if upload.upload in own or upload.begun > before:
                    continue
                if request.remove:
                    await registry.give_up(upload)
                await send(
                    pb.StrayUpload(
                        key=upload.key,
                        upload=upload.upload,
                        begun=rfc3339(upload.begun),
                        removed=request.remove,
                    )
                )
