"""The store of the simulation: keys and bytes in memory, a faulty way there, and a history.

The store itself is correct and strongly consistent. What goes wrong goes wrong on the way: requests
that never arrive, answers that get lost, requests that arrive late (after the sender has died) or
twice, 409, 412 without reason, 503; and for a moment the way may lead to another store, as to the mount
point of a disk that is not mounted.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from tests.simulation.contents import bytes_of
from tests.simulation.loop import START, VirtualLoop
from wherry.errors import StoreUnavailable
from wherryd.stores.base import (
    Body,
    EtagMismatch,
    Found,
    Object,
    ObjectExists,
    ObjectMissing,
    ObjectStat,
    OutcomeUnknown,
    Sizes,
    WriteConflict,
)
from wherryd.stores.chunks import InChunks


class Died(asyncio.CancelledError):
    """The daemon that called has been killed: nothing of it runs on."""


@dataclass(frozen=True)
class Change:
    """One change of one object, as the store made it."""

    at: float
    key: str
    body: bytes | None
    writer: str


@dataclass
class Faults:
    """How likely each fault is, for one history."""

    lost_request: float = 0.0
    lost_answer: float = 0.0
    late: float = 0.0
    twice: float = 0.0
    repeated: float = 0.0
    slow_answer: float = 0.0
    conflict: float = 0.0
    bare_412: float = 0.0
    unavailable: float = 0.0
    latency_s: float = 0.05
    late_s: float = 20.0
    slow_s: float = 5.0


RESTARTED = "(wherry retry)"


@dataclass
class World:
    """What all daemons, users and readers share."""

    loop: VirtualLoop
    chance: random.Random
    faults: Faults
    objects: dict[str, tuple[bytes, str, float]] = field(default_factory=dict)
    history: list[Change] = field(default_factory=list)
    watchers: list[Callable[[Change], None]] = field(default_factory=list)
    #: (home, key, body) of every conditional put that was sent, and those under way; a key is ``RESTARTED``
    #: where a user of the home has said `wherry retry`.
    puts: list[tuple[str, str, bytes]] = field(default_factory=list)
    flying: dict[tuple[str, str], int] = field(default_factory=dict)
    overlaps: list[str] = field(default_factory=list)
    #: The store does not answer; how often each home has met that; how often it became another one.
    is_away: bool = False
    met: Counter[str] = field(default_factory=Counter)
    #: The way leads to another store, in which these objects lie.
    is_elsewhere: bool = False
    others: dict[str, tuple[bytes, str, float]] = field(default_factory=dict)
    changes: int = 0
    #: When what a version may name was removed behind everybody's back; and when a home (home, key) has
    #: put it, or has looked and found it there.
    removed: dict[str, float] = field(default_factory=dict)
    found: dict[tuple[str, str], float] = field(default_factory=dict)
    #: Cleared: the stand-in for uploads waits.
    may_upload: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.may_upload.set()

    def lay(self, key: str, body: bytes) -> None:
        """Let an object be there without anybody having written it."""
        self.objects[key] = (body, hashlib.md5(body).hexdigest(), self.now())

    def remove(self, key: str) -> None:
        """Let an object be gone without anybody having been told."""
        del self.objects[key]
        self.removed[key] = self.now()

    def is_missed(self, key: str, home: str, since: float) -> bool:
        """Whether an object is gone, and the home has not found it there since then."""
        if key in self.objects:
            return False
        return not since <= self.found.get((home, key), -1.0) <= self.removed.get(key, -1.0)

    def overlaps_in_lanes(self) -> list[str]:
        """Records that were sent while another of the same lane and home was under way."""
        return [key for key in self.overlaps if "/versions/" in key]

    def now(self) -> float:
        return START + self.loop.time()

    def there(self, who: str) -> dict[str, tuple[bytes, str, float]]:
        """The objects that somebody finds at the address; users know where the store is."""
        is_elsewhere = self.is_elsewhere and not who.startswith("user")
        return self.others if is_elsewhere else self.objects

    def write(self, key: str, body: bytes | None, writer: str) -> str:
        """Change an object, and tell those who watch the store."""
        etag = hashlib.md5(body or b"").hexdigest()
        objects = self.there(writer)
        if body is None:
            objects.pop(key, None)
        else:
            objects[key] = (body, etag, self.now())
        if objects is self.objects:
            self.found[writer, key] = self.now()
            self._tell(Change(self.now(), key, body, writer))
        return etag

    def _tell(self, change: Change) -> None:
        self.history.append(change)
        for watcher in self.watchers:
            watcher(change)

    def create(self, key: str, body: bytes, writer: str) -> str:
        if key in self.there(writer):
            raise ObjectExists(key)
        return self.write(key, body, writer)

    def replace(self, key: str, body: bytes, etag: str, writer: str) -> str:
        objects = self.there(writer)
        if key not in objects or objects[key][1] != etag:
            raise EtagMismatch(key)
        return self.write(key, body, writer)

    def get(self, key: str, reader: str) -> Object:
        objects = self.there(reader)
        if key not in objects:
            raise ObjectMissing(key)
        body, etag, modified = objects[key]
        return Object(ObjectStat(key, len(body), etag, modified), body)


class SimStore(InChunks):
    """One daemon's way to the store (``wherryd.stores.base.ObjectStore``).

    Args:
        home: who writes, for the history.
        step: called before and after each verb; raises ``Died`` when the daemon is to die here.
    """

    address = "sim://store"

    def __init__(self, world: World, home: str, step: Callable[[], None]) -> None:
        self._world = world
        self._home = home
        self._step = step

    # ── reads ──────────────────────────────────────────────────────────────────────────────────
    async def get(self, key: str) -> Object:
        await self._read_way()
        return self._world.get(key, self._home)

    async def stream(
        self, key: str, offset: int = 0, size: int | None = None
    ) -> AsyncIterator[bytes]:
        body = (await self.get(key)).body
        yield body[offset : None if size is None else offset + size]

    async def head(self, key: str) -> ObjectStat:
        await self._read_way()
        return self._world.get(key, self._home).stat

    async def list(self, prefix: str, start_after: str = "") -> AsyncIterator[ObjectStat]:
        await self._read_way()
        keys = sorted(self._world.there(self._home))
        found = [key for key in keys if key.startswith(prefix) and key > start_after]
        for stat in [self._world.get(key, self._home).stat for key in found]:
            yield stat

    def scan(self, prefix: str) -> AsyncIterator[ObjectStat]:
        return self.list(prefix)

    async def list_folders(self, prefix: str) -> AsyncIterator[str]:
        await self._read_way()
        below = {
            key[len(prefix) :].split("/")[0]
            for key in self._world.there(self._home)
            if key.startswith(prefix)
        }
        for name in sorted(below):
            yield name

    # ── writes ─────────────────────────────────────────────────────────────────────────────────
    async def put(self, key: str, body: Body) -> None:
        data = body if isinstance(body, bytes) else bytes_of(body)
        await self._write_way(
            key, data, lambda: self._world.write(key, data, self._home), is_conditional=False
        )

    async def put_if_absent(self, key: str, body: bytes) -> str:
        return await self._write_way(key, body, lambda: self._world.create(key, body, self._home))

    async def put_if_match(self, key: str, body: bytes, etag: str) -> str:
        return await self._write_way(
            key, body, lambda: self._world.replace(key, body, etag, self._home)
        )

    async def get_all(self, keys: Sequence[str]) -> dict[str, Object]:
        """All of it at one moment, as in a folder that is opened once."""
        await self._read_way()
        there = self._world.there(self._home)
        return {key: self._world.get(key, self._home) for key in keys if key in there}

    async def sync(self, keys: Sequence[str], witness: str) -> Found:
        """At one moment, too."""
        await self._read_way()
        there = self._world.there(self._home)
        body, *_ = there.get(witness, (None,))
        return Found(body, tuple(sorted({*keys} - there.keys())))

    async def sizes(self, keys: Sequence[str], witness: str) -> Sizes:
        """At one moment, too."""
        await self._read_way()
        there = self._world.there(self._home)
        body, *_ = there.get(witness, (None,))
        sizes = {key: len(there[key][0]) for key in keys if key in there}
        if there is self._world.objects:
            self._world.found |= {(self._home, key): self._world.now() for key in sizes}
        return Sizes(body, sizes)

    async def delete(self, key: str) -> None:
        await self._write_way(
            key, b"", lambda: self._world.write(key, None, self._home), is_conditional=False
        )

    async def aclose(self) -> None:
        """Nothing to do."""

    # ── the way there and back ─────────────────────────────────────────────────────────────────
    async def _read_way(self) -> None:
        self._step()
        await self._pass_time()
        self._check_away(StoreUnavailable("time-out"))
        if self._happens(self._world.faults.unavailable):
            raise StoreUnavailable("503")
        self._step()

    def _check_away(self, error: StoreUnavailable) -> None:
        if self._world.is_away:
            self._world.met[self._home] += 1
            raise error

    async def _write_way(
        self, key: str, body: bytes, act: Callable[[], str], *, is_conditional: bool = True
    ) -> str:
        self._step()
        world = self._world
        world.puts.append((self._home, key, body))
        lane = (self._home, key.rsplit("/", 1)[0])
        world.flying[lane] = world.flying.get(lane, 0) + 1
        if world.flying[lane] > 1 and not self._home.startswith("user"):
            world.overlaps.append(key)
        try:
            return await self._deliver(key, act, is_conditional)
        finally:
            world.flying[lane] -= 1
            self._step()

    async def _deliver(self, key: str, act: Callable[[], str], is_conditional: bool) -> str:
        faults = self._world.faults
        await self._pass_time()
        self._check_away(OutcomeUnknown("time-out"))
        if self._happens(faults.unavailable) or self._happens(faults.lost_request):
            raise OutcomeUnknown("503")
        if is_conditional and self._happens(faults.conflict):
            raise WriteConflict(key)
        if (
            "/versions/" in key
            and not self._home.startswith("user")
            and self._happens(faults.bare_412)
        ):
            raise ObjectExists(key)
        if self._happens(faults.late):
            self._later(act)
            raise OutcomeUnknown("time-out")
        if self._happens(faults.twice):
            self._later(act)
        answer = self._act(act)
        await self._pass_time()
        if self._happens(faults.slow_answer):
            await asyncio.sleep(self._world.chance.random() * faults.slow_s)
        if self._happens(faults.lost_answer):
            raise OutcomeUnknown("reset")
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _act(self, act: Callable[[], str]) -> str | Exception:
        try:
            answer = act()
            if self._happens(self._world.faults.repeated):
                answer = act()  # a layer below sends again, and our own success is refused
        except (ObjectExists, EtagMismatch) as refusal:
            return refusal
        return answer

    def _later(self, act: Callable[[], str]) -> None:
        changes, sent_to = self._world.changes, self._world.there(self._home)

        def arrive() -> None:
            if self._world.changes != changes or self._world.there(self._home) is not sent_to:
                return  # the store that it was sent to is not there any more
            try:
                act()
            except (ObjectExists, EtagMismatch):
                pass

        delay = self._world.chance.random() * self._world.faults.late_s
        self._world.loop.call_later(delay, arrive)

    async def _pass_time(self) -> None:
        await asyncio.sleep(self._world.chance.random() * self._world.faults.latency_s)

    def _happens(self, likely: float) -> bool:
        return likely > 0 and self._world.chance.random() < likely
