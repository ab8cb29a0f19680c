"""``FetchFiles`` and ``TrimCache``.

Owns: how long a call holds what it has told of. Does not own: bringing it here (``read``).
"""

from __future__ import annotations

from wherry.wire import wherry_pb2 as pb
from wherry.wire.names import check_name
from wherryd.clock import Clock
from wherryd.opened import OpenedStores
from wherryd.read.delivery import Delivery, Told
from wherryd.read.fetching import Fetcher, Source
from wherryd.read.files import Wanted
from wherryd.rpc.messages import fetched_message, store_of
from wherryd.rpc.service import Send

#: A client that copies says nothing meanwhile; one that hangs is not waited for longer than so.
HELD_S = 3600.0
#: Of one answer, which gRPC limits to 4 MiB.
_FILES = 2000
_DATA_BYTES = 1 << 20


class FetchingCalls:
    """The calls.

    Args:
        default_store: for clients that name none.
    """

    def __init__(
        self, stores: OpenedStores, default_store: str, fetcher: Fetcher, clock: Clock
    ) -> None:
        self._stores = stores
        self._default_store = default_store
        self._fetcher = fetcher
        self._clock = clock

    async def fetch_files(self, request: pb.FetchFilesRequest, send: Send) -> None:
        """Tell where the bytes of entries are, and keep them there until the client hangs up."""
        project = check_name("project", request.project)
        address = store_of(request.store, self._default_store)
        source = Source(address, project, await self._stores.registry(address))

        async def tell(told: Told) -> None:
            for reply in _replies(told):
                await send(reply)

        with self._fetcher.holding() as hold:
            most_bytes = await self._fetcher.room_bytes()
            delivery = Delivery(source, self._fetcher, hold, tell, most_bytes)
            await delivery.deliver(request.manifest, Wanted(request.paths), request.after)
            await self._clock.sleep(HELD_S)

    async def trim_cache(self, request: pb.TrimCacheRequest) -> pb.TrimCacheReply:
        """How much the cache holds, and perhaps less of it."""
        reply = pb.TrimCacheReply()
        if request.most_bytes >= 0:
            removed = await self._fetcher.trim(request.most_bytes)
            reply.removed_bytes, reply.removed_files = removed.bytes, removed.files
        held, reply.quota_bytes = await self._fetcher.holds()
        reply.bytes, reply.files = held.bytes, held.files
        return reply


def _replies(told: Told) -> list[pb.FetchReply]:
    replies = [pb.FetchReply()]
    data_bytes = 0
    for place in told.places:
        if len(replies[-1].files) == _FILES or data_bytes > _DATA_BYTES:
            replies.append(pb.FetchReply())
            data_bytes = 0
        replies[-1].files.append(fetched_message(place))
        data_bytes += len(place.data)
    replies[-1].last, replies[-1].more = told.is_last, told.has_more
    return replies
