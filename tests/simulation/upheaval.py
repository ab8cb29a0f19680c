"""The store becomes another one under the daemons, and users look at it and say ``wherry retry``."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Sequence

from tests.simulation.contents import named_by
from tests.simulation.daemon import Home
from tests.simulation.plan import Plan
from tests.simulation.promises import Broken, Promises, Upheaval
from tests.simulation.store import SimStore, World
from wherryd.model import Lane, State
from wherryd.queue import knowledge

#: Longer than any answer is on its way.
AWAY_S = 10.0
#: Longer than hashing and sending take.
LONGEST_UPLOAD_S = 120
#: Longer than the store is trusted unasked.
QUIET_S = 61.0
_IDENTITY = "wherry.json"

#: Whose line begins with a request that is uploaded.
_COMMITTING = """
    SELECT 1
    FROM (
        SELECT state, min(place) FROM requests
        WHERE state IN ('accepted', 'prepared', 'uploaded', 'sending') GROUP BY address, project, name
    )
    WHERE state IN ('uploaded', 'sending')
"""

_ENDED = (State.SETTLED, State.DONE, State.FAILED, State.CANCELLED)

LogGood = Callable[[Home, Lane], Awaitable[None]]


class Upheavals:
    """Changes of the store, and what users do about them.

    Args:
        log: logs something that nothing is wrong with, so that a lane has a worker.
    """

    def __init__(
        self,
        world: World,
        plan: Plan,
        homes: Sequence[Home],
        lanes: Sequence[Lane],
        promises: Promises,
        log: LogGood,
    ) -> None:
        self._world = world
        self._plan = plan
        self._homes = homes
        self._lanes = lanes
        self._promises = promises
        self._log = log
        self._chance: random.Random = world.chance
        #: Nobody restarts a lane while the store changes.
        self._one_at_a_time = asyncio.Lock()

    async def happen(self) -> None:
        """Remove bytes, put another store there for a moment, and change it, as often as planned."""
        for _ in range(self._plan.removals):
            await asyncio.sleep(self._chance.random() * self._plan.spread_s)
            self._remove()
        for _ in range(self._plan.moments):
            await asyncio.sleep(self._chance.random() * self._plan.spread_s * self._plan.logs)
            await self._for_a_moment()
        for _ in range(self._plan.changes):
            await asyncio.sleep(self._chance.random() * self._plan.spread_s * self._plan.logs)
            kind = self._chance.choice(self._plan.kinds)
            match self._chance.choice(self._plan.ways):
                case "dead":
                    await self._while_dead(kind)
                case "away":
                    await self._while_away(kind)
                case "quiet":
                    await self._while_quiet(kind)
            await asyncio.sleep(self._chance.random() * 100)

    async def _while_dead(self, kind: str) -> None:
        async with self._one_at_a_time:
            for home in self._homes:
                if home.daemon:
                    home.daemon.kill()
            self._change(kind)

    async def _while_away(self, kind: str) -> None:
        """The store does not answer until everybody has met that, and for a while longer.

        But for those whose lanes all stand still: they ask it anew when they go on.
        """
        async with self._one_at_a_time:
            self._world.is_away = True
            before = [home.trouble() for home in self._homes]
            await self._log_everywhere()
            for _ in range(LONGEST_UPLOAD_S):
                if all(
                    home.trouble() != old for home, old in zip(self._homes, before, strict=True)
                ):
                    break
                await asyncio.sleep(1)
            await asyncio.sleep(AWAY_S)
            self._change(kind)
            self._world.is_away = False

    async def _while_quiet(self, kind: str) -> None:
        """Nobody meets an error; but nobody asks for longer than what was seen counts."""
        self._world.may_upload.clear()
        await self._log_everywhere()
        quiet_s = 0  # long enough for what has begun to go up, and for steps of what was cancelled
        while quiet_s < LONGEST_UPLOAD_S:
            await asyncio.sleep(1)
            quiet_s = 0 if self._is_committing() else quiet_s + 1
        async with self._one_at_a_time:
            self._change(kind)
        await asyncio.sleep(QUIET_S)
        self._world.may_upload.set()

    async def _for_a_moment(self) -> None:
        """A disk is unmounted and mounted again: whoever comes by meanwhile finds an empty folder."""
        async with self._one_at_a_time:
            while not all(self._known_id(home) for home in self._homes):
                await asyncio.sleep(
                    1
                )  # who has never been there takes the empty folder for a new store
            pairs = {(home.name, _folder(lane)) for home in self._homes for lane in self._lanes}
            self._promises.doubtful |= pairs
            self._world.is_elsewhere = True
            await asyncio.sleep(self._chance.random() * self._plan.moment_s)
            self._world.is_elsewhere = False

    async def _log_everywhere(self) -> None:
        for home in self._homes:
            for lane in self._lanes:
                await self._log(home, lane)

    def _is_committing(self) -> bool:
        """Whether a home has bytes for the next version of a lane, or is making it."""
        return any(home.connection.execute(_COMMITTING).fetchone() for home in self._homes)

    def _remove(self) -> None:
        """Remove some of what versions name, or all of it."""
        keys = [key for key in self._world.objects if "/manifests/" in key or "/blobs/" in key]
        likely = self._chance.choice((0.3, 1.0))
        for key in keys:
            if self._chance.random() < likely:
                self._world.remove(key)

    # ── the change ─────────────────────────────────────────────────────────────────────────────
    def _change(self, kind: str) -> None:
        self._world.changes += 1
        keep = {lane: self._lose(lane, kind) for lane in self._lanes}
        foreign = self._overwrite(keep) if kind == "overwritten" else {}
        if kind == "emptied":
            self._world.objects.clear()
        if kind == "exchanged" and _IDENTITY in self._world.objects:
            new_id = f"{self._chance.getrandbits(128):032x}"
            self._put(_IDENTITY, {"format": 1, "store": new_id})
            self._lose_manifests(keep)
        ended = {request for home in self._homes for request in self._ended(home)}
        frozen = {
            (home.name, _folder(lane))
            for home in self._homes
            for lane in self._lanes
            if self._must_stop(home, lane, keep[lane], overwritten=kind == "overwritten")
        }
        pairs = {(home.name, _folder(lane)) for home in self._homes for lane in self._lanes}
        by_folder = {_folder(lane): number for lane, number in keep.items()}
        tops = {
            (home.name, _folder(lane)): self._top(home, lane)
            for home in self._homes
            for lane in self._lanes
            if self._known_id(home) == self._id_there()
        }
        self._promises.changed(Upheaval(by_folder, foreign, ended, frozen, pairs, tops))

    def _lose(self, lane: Lane, kind: str) -> int:
        """Lose the newest versions of a lane; return how many are left."""
        folder = f"{_folder(lane)}/versions/"
        records = sorted(key for key in self._world.objects if key.startswith(folder))
        if kind == "overwritten":
            return len(records)
        left = 0 if kind == "emptied" else self._chance.randrange(len(records) + 1)
        for key in records[left:]:
            del self._world.objects[key]
        return left

    def _lose_manifests(self, keep: dict[Lane, int]) -> None:
        """Lose what no version names."""
        objects = self._world.objects
        named: set[str] = set()
        for lane, number in keep.items():
            for life in self._promises.lives[_folder(lane)][:number]:
                named |= named_by(lane.project, life.content)
        for key in [key for key in objects if "/manifests/" in key or "/blobs/" in key]:
            if key not in named:
                del objects[key]

    def _overwrite(self, keep: dict[Lane, int]) -> dict[str, tuple[str, str]]:
        """Let the highest record of each lane be somebody else's; return its request and content."""
        foreign = {}
        for lane, number in keep.items():
            if number:
                key = f"{_folder(lane)}/versions/v{number - 1:08d}.json"
                there = json.loads(self._world.objects[key][0])
                there["request"] = f"foreign{self._world.changes}-{lane.name}"
                self._put(key, there)
                foreign[_folder(lane)] = there["request"], there["content"]
        return foreign

    def _put(self, key: str, content: dict[str, object]) -> None:
        """Let it lie there, without anybody having written it."""
        body = json.dumps(content, separators=(",", ":")).encode() + b"\n"
        self._world.lay(key, body)

    def _ended(self, home: Home) -> list[str]:
        states = ",".join(f"'{state}'" for state in _ENDED)
        found = home.connection.execute(f"SELECT id FROM requests WHERE state IN ({states})")
        return [row[0] for row in found]

    def _must_stop(self, home: Home, lane: Lane, left: int, *, overwritten: bool) -> bool:
        """Whether what the home keeps of the lane is not what is there."""
        known_id = self._known_id(home)
        if not known_id or known_id != self._id_there():
            return bool(known_id)
        highest, _ = self._top(home, lane)
        return highest >= left or (overwritten and highest == left - 1 >= 0)

    def _top(self, home: Home, lane: Lane) -> tuple[int, str]:
        """Number and request of the highest version that the home knows."""
        found = home.connection.execute(
            "SELECT highest, highest_request FROM artifacts WHERE store_id = ? AND name = ?",
            (self._known_id(home), lane.name),
        ).fetchone()
        return (found[0], found[1]) if found else (-1, "")

    def _known_id(self, home: Home) -> str:
        found = home.connection.execute(
            "SELECT store_id FROM stores WHERE address = ?", (SimStore.address,)
        ).fetchone()
        return found[0] if found else ""

    def _id_there(self) -> str:
        there = self._world.objects.get(_IDENTITY)
        return str(json.loads(there[0])["store"]) if there else ""

    # ── users ──────────────────────────────────────────────────────────────────────────────────
    async def look_after(self) -> None:
        """Look at each lane that stopped, and restart it; for ever."""
        while True:
            await asyncio.sleep(5)
            for home in list(self._homes):
                for lane in knowledge.stopped(home.connection):
                    await asyncio.sleep(self._chance.choice((0.0, 20.0)))
                    async with self._one_at_a_time:
                        await self._retry(home, lane)

    async def _retry(self, home: Home, lane: Lane) -> None:
        pair = home.name, _folder(lane)
        if pair not in self._promises.doubtful:
            self._promises.broken.append(Broken(f"{pair} stopped, and the store is what it was"))
        is_another = self._known_id(home) != self._id_there()
        meant = {pair}
        if is_another:  # whose store counts then for all lanes of the home
            meant = {(home.name, _folder(each)) for each in self._lanes}
        self._promises.frozen -= meant
        await home.restart_lane(lane)
        still = {(home.name, _folder(each)) for each in knowledge.stopped(home.connection)}
        self._promises.doubtful -= meant - still


def _folder(lane: Lane) -> str:
    return f"{lane.project}/artifacts/{lane.name}"
