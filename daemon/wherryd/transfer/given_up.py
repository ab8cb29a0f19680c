"""Uploads in parts that no request goes on with: their parts cost money until the store removes them.

Owns: having the store remove them, in the background, once their request was cancelled, failed or is done.
Does not own: those that the queue does not know (``wherry gc --uploads``), going on with the others.

The store first, then the row: after a kill it is done once more. Should another request have taken the upload
up meanwhile, the store tells it that there is none, and it begins anew.
"""

from __future__ import annotations

import anyio

from wherry.errors import QueueError, StoreError
from wherry.wire.failpoints import failpoint
from wherryd.clock import Clock
from wherryd.log import get_logger
from wherryd.model import State
from wherryd.news import News, Watch
from wherryd.queue.base import GivenUp, Queue
from wherryd.transfer.contact import Contacts

_PAUSE_S = 60.0

_BEFORE_STORE = failpoint("transfer.given-up.before-store")
_BEFORE_FORGET = failpoint("transfer.given-up.before-forget")

_log = get_logger("transfer")


class Reclaimer:
    """Has stores remove what nobody goes on with."""

    def __init__(self, contacts: Contacts, queue: Queue, news: News, clock: Clock) -> None:
        self._contacts = contacts
        self._queue = queue
        self._news = news
        self._clock = clock

    async def run(self) -> None:
        """Work until cancelled."""
        async with anyio.create_task_group() as tasks:
            with self._news.watch(State.CANCELLED, State.FAILED, State.DONE) as watch:
                while True:
                    await watch.wait_news()
                    if not await self.reclaim():
                        tasks.start_soon(self._wake_later, watch)

    async def reclaim(self) -> bool:
        """Go through all once; False: some are left, as their stores have trouble."""
        left: set[str] = set()
        try:
            for upload in await self._queue.given_up():
                if upload.address not in left and not await self._give_up(upload):
                    left.add(upload.address)
        except QueueError as error:
            _log.warning("uploads are given up later", error=str(error))
            return False
        return not left

    async def _give_up(self, upload: GivenUp) -> bool:
        _BEFORE_STORE()
        try:
            contact = await self._contacts.for_writing(upload.address)
            if contact.store_id == upload.store_id:
                await contact.registry.give_up_blob(upload.project, upload.digest, upload.name)
        except StoreError as error:
            _log.warning("parts are given back later", store=upload.address, error=str(error))
            return False
        _BEFORE_FORGET()
        await self._queue.forget_upload(upload.number)
        return True

    async def _wake_later(self, watch: Watch) -> None:
        await self._clock.sleep(self._clock.random() * _PAUSE_S)
        watch.wake()
