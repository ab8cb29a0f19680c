"""``FetchFiles`` and ``TrimCache``.

Owns: how long a call holds what it has told of. Does not own: bringing it here (``read``).
"""

from __future__ import annotations

from functools import partial

import anyio

from wherry.errors import CommError, DownloadError
from wherry.wire import wherry_pb2 as pb
from wherry.wire.names import check_name
from wherryd.clock import Clock
from wherryd.life import Life
from wherryd.opened import OpenedStores
from wherryd.read.bringing import Source
from wherryd.read.delivery import Delivery, Told
from wherryd.read.fetching import Fetcher, Hold
from wherryd.read.files import Wanted
from wherryd.rpc.messages import fetched_message, store_of
from wherryd.rpc.service import Send
from wherryd.together import all_of

#: After the last answer: a client that still copies says nothing.
HELD_S = 3600.0
_PROGRESS_S = 1.0
#: Of one answer, but for its last file.
_REPLY_BYTES = 1 << 20


class FetchingCalls:
    """The calls.

    Args:
        default_store: for clients that name none.
    """

    def __init__(
        self,
        stores: OpenedStores,
        default_store: str,
        fetcher: Fetcher,
        clock: Clock,
        life: Life,
    ) -> None:
        self._stores = stores
        self._default_store = default_store
        self._fetcher = fetcher
        self._clock = clock
        self._life = life

    async def fetch_files(self, request: pb.FetchFilesRequest, send: Send) -> None:
        """Tell where the bytes of entries are, and keep them there until the client hangs up."""
        project = check_name("project", request.project)
        address = store_of(request.store, self._default_store)
        source = Source(address, project, await self._stores.registry(address))

        turn = anyio.Lock()  # gRPC sends one message of a call at a time

        async def tell(told: Told) -> None:
            async with turn:
                for reply in _replies(told):
                    await send(reply)

        with self._fetcher.holding() as hold:
            room = await self._fetcher.room()
            delivery = Delivery(source, self._fetcher, hold, tell, room, links=request.links)
            wanted = Wanted(request.paths)
            await all_of(
                self._end_with_the_daemon,
                partial(self._tell_progress, hold, turn, send),
                partial(self._deliver, delivery, request.manifest, wanted, request.after),
            )

    async def _deliver(self, delivery: Delivery, manifest: str, wanted: Wanted, after: str) -> None:
        await delivery.deliver(manifest, wanted, after)
        await self._clock.sleep(HELD_S)
        raise CommError("a client that was told all has not hung up for an hour")

    async def _end_with_the_daemon(self) -> None:
        """A daemon that leaves waits for no copies: the client asks the next one for the rest."""
        await self._life.wait_leaving()
        self._life.check_staying()

    async def _tell_progress(self, hold: Hold, turn: anyio.Lock, send: Send) -> None:
        """Tell how far a large object is, which is told of when it is here only."""
        told = 0
        while True:
            await self._clock.sleep(_PROGRESS_S)
            there = self._fetcher.bytes_of(hold)
            if there > told:
                told = there
                async with turn:
                    await send(pb.FetchReply(bytes=told))

    async def trim_cache(self, request: pb.TrimCacheRequest) -> pb.TrimCacheReply:
        """How much the cache holds, and perhaps less of it."""
        reply = pb.TrimCacheReply()
        try:
            if request.HasField("most_bytes"):
                removed = await self._fetcher.trim(max(0, request.most_bytes))
                reply.removed_bytes, reply.removed_files = removed.bytes, removed.files
            held, reply.quota_bytes = await self._fetcher.holds()
        except OSError as error:
            raise DownloadError(f"the cache can't be used: {error}") from error
        reply.bytes, reply.files = held.bytes, held.files
        return reply


def _replies(told: Told) -> list[pb.FetchReply]:
    replies, size = [pb.FetchReply()], 0
    for place in told.places:
        if size > _REPLY_BYTES:
            replies.append(pb.FetchReply())
            size = 0
        replies[-1].files.append(fetched_message(place))
        size += len(place.data) + len(place.path) + len(place.file)
    if told.coming:
        coming = told.coming
        replies[-1].coming.CopyFrom(
            pb.ComingFile(path=coming.path, file=coming.file, bytes=coming.bytes)
        )
    replies[-1].last, replies[-1].more = told.is_last, told.has_more
    return replies
