"""From ``accepted`` to ``prepared``: every entry has its digest, and the manifest is made.

Owns: which requests are worked on at once, what a file that is not as it was captured means.
Does not own: hashing (``digests``), asking servers (``lookups``), the manifest (``manifests``), sending
(``transfer``).

What a kill leaves: digests and lookups that were kept, perhaps the manifest's file; the request is still
``accepted`` and is done again, without hashing or asking again what was kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio.to_thread
import msgspec

from wherry.errors import BadPath, CaptureError, ReferenceFailed, SpoolFull, WherryError
from wherry.wire.canonical import content_digest
from wherry.wire.failpoints import failpoint
from wherryd.clock import Clock
from wherryd.crew import Crew
from wherryd.log import get_logger
from wherryd.lost import of_lost
from wherryd.model import State
from wherryd.news import News
from wherryd.prepare.digests import Hashers
from wherryd.prepare.lookups import Lookups, Rest
from wherryd.prepare.manifests import ManifestMaker
from wherryd.progress import Progress
from wherryd.public import public_name
from wherryd.queue.base import Queue, Request
from wherryd.together import all_of

#: Requests from this size on have places of their own, so that they never fill all.
BIG_BYTES = 64 << 20
BIG_AT_ONCE = 4
SMALL_AT_ONCE = 8
#: They wait for servers and take next to nothing of this machine.
ASKING_AT_ONCE = 64
_FULL_PAUSE_S = 10.0

_BEFORE_QUEUE = failpoint("prepare.manifest.before-queue")
_AFTER_QUEUE = failpoint("prepare.manifest.after-queue")
_BEFORE_FAIL = failpoint("prepare.request.before-fail")

_log = get_logger("prepare")


def choose(candidates: Sequence[Request], busy: Sequence[Request]) -> list[Request]:
    """Choose the requests to start: in turn, the big ones in places of their own."""
    big = [request for request in candidates if request.size >= BIG_BYTES]
    small = [request for request in candidates if request.size < BIG_BYTES]
    busy_big = sum(request.size >= BIG_BYTES for request in busy)
    free_small = SMALL_AT_ONCE - (len(busy) - busy_big)
    return small[: max(0, free_small)] + big[: max(0, BIG_AT_ONCE - busy_big)]


def choose_asking(candidates: Sequence[Request], busy: Sequence[Request]) -> Sequence[Request]:
    """Choose the requests to start among those that wait for servers: in turn."""
    return candidates[: max(0, ASKING_AT_ONCE - len(busy))]


class Preparer:
    """The stage.

    Args:
        manifests: folder for the manifests' files.
        threads: how many hash at once.
        lookups: resolves references to servers.
        make_room: gives up what is kept for a full disk; blocks for a moment.
    """

    def __init__(
        self,
        manifests: str,
        threads: int,
        lookups: Lookups,
        queue: Queue,
        news: News,
        clock: Clock,
        progress: Progress,
        stand_back_s: Callable[[], float] = lambda: 0.0,
        make_room: Callable[[], object] = lambda: None,
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._progress = progress
        self._make_room = make_room
        self._lookups = lookups
        self._maker = ManifestMaker(manifests, queue, Hashers(threads), progress, clock)
        # Two, so that however many wait for servers, nobody else waits behind them. A request is one's,
        # and when its lookups are done the other's: never both's at once.
        self.crew, self._asking = (
            Crew(
                State.ACCEPTED,
                chooser,
                work,
                queue,
                news,
                clock,
                stand_back_s=stand_back_s,
                asking=asking,
            )
            for chooser, work, asking in (
                (choose, self._prepare, False),
                (choose_asking, self._resolve, True),
            )
        )

    async def run(self) -> None:
        """Work until cancelled."""
        await all_of(self.crew.run, self._asking.run)

    def nudge(self) -> None:
        """Try again now what rests: the user said so."""
        self._lookups.nudge()
        self.crew.nudge()
        self._asking.nudge()

    async def leave(self) -> None:
        """Start nothing more, and return when nothing runs."""
        await all_of(self.crew.leave, self._asking.leave)

    async def _resolve(self, request: Request) -> bool:
        try:
            rest = await self._lookups.resolve(request)
        except ReferenceFailed as error:
            await self._fail(request, error)
            return True
        if rest:
            await self._wait_for_servers(request, rest)
            return False
        self.crew.wake()
        return True

    async def _prepare(self, request: Request) -> bool:
        self._progress.start(request.row)
        try:
            made = await self._maker.make(request)
        except SpoolFull as error:
            await self._wait_for_room(request, error)
            return False
        except (CaptureError, ReferenceFailed, BadPath) as error:
            await self._fail(request, error)
            return True
        finally:
            self._progress.end(request.row)
        metadata = msgspec.json.decode(request.metadata)
        manifest = made.manifest
        content = content_digest(manifest.digest, request.type, request.description, metadata)
        _BEFORE_QUEUE()
        await self._queue.prepared(request.row, manifest, content, made.digests)
        _AFTER_QUEUE()
        return True

    async def _fail(self, request: Request, error: WherryError) -> None:
        _log.warning("request fails", request=request.id, name=request.lane.name, error=str(error))
        _BEFORE_FAIL()
        reason = str(of_lost(error, request))
        await self._queue.fail(request.row, public_name(error), reason)

    async def _wait_for_servers(self, request: Request, rest: Rest) -> None:
        _log.warning("servers give no answer", request=request.id, error=str(rest.error))
        error, next_try = rest.error, self._clock.now() + rest.pause_s
        await self._queue.wait_until(request.row, public_name(error), str(error), next_try)
        self._asking.rest(request.row, rest.pause_s)

    async def _wait_for_room(self, request: Request, error: WherryError) -> None:
        await anyio.to_thread.run_sync(self._make_room)
        pause_s = self._clock.random() * _FULL_PAUSE_S
        next_try = self._clock.now() + pause_s
        await self._queue.wait_until(request.row, public_name(error), str(error), next_try)
        await self._clock.sleep(pause_s)
