"""``Hello``, ``Status`` and ``Shutdown``: these never change.

Owns: what the daemon says of itself. Does not own: leaving (``app``), credentials (``stores``).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import anyio.to_thread
import msgspec

from wherry.errors import UsageError
from wherry.wire import PROTOCOL, VERSION
from wherry.wire import wherry_pb2 as pb
from wherry.wire.address import normalize_store
from wherryd.capture.room import Fullness
from wherryd.clock import rfc3339
from wherryd.life import Life
from wherryd.log import get_logger
from wherryd.model import State
from wherryd.queue.base import Filter, Queue, Request
from wherryd.rpc.messages import ENDED, spool_message
from wherryd.rpc.telling import OPEN, Teller
from wherryd.stores.credentials import CredentialSets

_SHOWN = 1000

_log = get_logger("rpc")


class Identity(msgspec.Struct, frozen=True):
    """Who this daemon is."""

    home: Path
    home_id: str
    find_socket: Callable[[], Path]  # where it answers


class MeetingCalls:
    """The calls.

    Args:
        nudge: lets what waits for a store try again now.
        set_aside: finds damaged queues; blocks for a moment.
        is_receiving: whether a request is coming in.
        fullness: how full the spool is.
        why_runs_wait: what keeps the records of runs from their store; "" for nothing.
    """

    def __init__(
        self,
        identity: Identity,
        queue: Queue,
        teller: Teller,
        life: Life,
        credentials: CredentialSets,
        nudge: Callable[[str], None],
        set_aside: Callable[[], list[Path]],
        is_receiving: Callable[[], bool],
        fullness: Callable[[], Fullness],
        why_runs_wait: Callable[[], str],
    ) -> None:
        self._why_runs_wait = why_runs_wait
        self._fullness = fullness
        self._identity = identity
        self._queue = queue
        self._teller = teller
        self._life = life
        self._credentials = credentials
        self._nudge = nudge
        self._set_aside = set_aside
        self._is_receiving = is_receiving

    async def hello(self, request: pb.HelloRequest) -> pb.HelloReply:
        """Say who both sides are, and take the client's credentials."""
        _log.debug("hello", client=request.client, client_pid=request.pid)
        for handed in request.credentials:
            self._take(handed)
        return await self._describe()

    async def status(self, _: pb.StatusRequest) -> pb.StatusReply:
        """What the daemon has to do, is doing, and failed to do; failures first where not all are shown."""
        counts = await self._queue.counts()
        requests = [await self._teller.tell(each) for each in await self._shown()]
        stopped = await self._queue.stopped()
        waiting, held = await self._queue.runs_waiting()
        return pb.StatusReply(
            daemon=await self._describe(),
            socket=str(self._identity.find_socket()),
            counts={str(state): count for state, count in counts.items()},
            requests=requests,
            stopped=[
                pb.LaneState(store=lane.store, project=lane.project, name=lane.name, reason=reason)
                for lane, reason in sorted(stopped.items())
            ],
            started=rfc3339(self._life.started),
            set_aside=map(str, await anyio.to_thread.run_sync(self._set_aside)),
            locked=self._queue.locked,
            spool=spool_message(self._fullness()),
            runs=pb.RunsState(waiting=waiting, held=held, reason=self._why_runs_wait()),
        )

    async def _shown(self) -> list[Request]:
        failed = Filter(states=(State.FAILED,), not_acknowledged=True, limit=_SHOWN)
        shown = await self._queue.find(failed)
        if len(shown) < _SHOWN:
            shown += await self._queue.find(Filter(states=OPEN, limit=_SHOWN - len(shown)))
        return shown

    async def shutdown(self, request: pb.ShutdownRequest) -> pb.ShutdownReply:
        """Begin to leave, unless there is work and only an idle daemon is meant."""
        if request.if_idle and await self._is_busy():
            return pb.ShutdownReply(accepted=False)
        self._life.leave(request.why or "a client asked")
        return pb.ShutdownReply(accepted=True)

    def _take(self, handed: pb.Credentials) -> None:
        try:
            address = normalize_store(handed.store, {})
        except UsageError as error:
            _log.warning("credentials for no store", error=str(error))
            return
        if self._credentials.hand_over(address, dict(handed.values)):
            self._nudge(address)

    async def _describe(self) -> pb.HelloReply:
        return pb.HelloReply(
            protocol=PROTOCOL,
            version=VERSION,
            pid=os.getpid(),
            home=str(self._identity.home),
            home_id=self._identity.home_id,
            draining=self._life.is_leaving,
            busy=await self._is_busy(),
        )

    async def _is_busy(self) -> bool:
        """Whether requests are not done or come in; those that offline mode holds are not work."""
        if self._is_receiving():
            return True
        counts = await self._queue.counts()
        idle = (*ENDED, State.HELD)
        return any(count for state, count in counts.items() if state not in idle)
