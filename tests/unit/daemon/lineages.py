"""A store in memory, what runs of one machine have put there, and that machine's answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import msgspec

from tests.support.memory import MemoryStore
from tests.unit.daemon.bench import HandClock
from tests.unit.daemon.stored import version_record
from wherry.errors import StoreUnavailable
from wherryd.lineage.graph import Graph, version_of
from wherryd.lineage.tracer import Tracer
from wherryd.model import RunInfo, RunRecord
from wherryd.registry import records
from wherryd.registry.objects import ObjectRegistry
from wherryd.stores.base import Object, ObjectStat, OutcomeUnknown


class Counting(MemoryStore):
    """Counts what is read and listed; may be away, or lose answers."""

    def __init__(self) -> None:
        super().__init__(HandClock())
        self.read: list[str] = []
        self.listed: list[str] = []
        self.is_away = False
        self.loses_answers = False

    async def get_all(self, keys: Sequence[str]) -> dict[str, Object]:
        if self.is_away:
            raise StoreUnavailable("away")
        self.read += [key for key in keys if key != "wherry.json"]
        return await super().get_all(keys)

    async def scan(self, prefix: str) -> AsyncGenerator[ObjectStat, None]:
        self.listed.append(prefix)
        if self.is_away:
            raise StoreUnavailable("away")
        async for stat in super().scan(prefix):
            yield stat

    async def put_if_absent(self, key: str, body: bytes) -> str:
        etag = await super().put_if_absent(key, body)
        if self.loses_answers:
            raise OutcomeUnknown("the answer was lost")
        return etag


class Lab:
    """A machine: its index and its clock.

    Args:
        store: another machine's; None: one of its own.
        home: of which its runs' records bear the id.
    """

    def __init__(self, folder: Path, store: Counting | None = None, home: str = "5" * 32) -> None:
        self.clock = HandClock()
        self.store = store or Counting()
        self.registry = ObjectRegistry(self.store)
        self.tracer = Tracer(folder / "lineage", self._open, self.clock)
        self._home = home
        self._records = 0

    async def _open(self, address: str) -> ObjectRegistry:
        return self.registry

    async def log(
        self, label: str, run: str = "", inputs: Sequence[str] = (), request: str = "q"
    ) -> None:
        """Put a version's record."""
        version = version_of(label)
        assert version is not None
        record = msgspec.structs.replace(
            version_record(version.number),
            request=request,
            type=version.name,
            run=RunInfo(run),
            inputs=list(inputs),
            created=f"2026-11-23T14:00:{version.number:02}.000Z",
        )
        body = records.encode(record)
        await self.registry.create_version(version.project, version.name, version.number, body)

    async def tell(self, run: str, project: str = "cats", place: str = "", **said: object) -> None:
        """Put a record of a run."""
        self._records += 1
        record = RunRecord(1, project, RunInfo(run), f"2026-11-23T14:{self._records:02}:00.000Z")
        record = RunRecord(**{**fields(record), **said})  # type: ignore[arg-type]
        body = records.encode(record)
        await self.registry.runs.put_record(place or project, run, self._home, self._records, body)

    async def trace(
        self, label: str, depth: int = 0, *, rebuild: bool = False, fresh: bool = False
    ) -> Graph:
        """Ask for the lineage of a version."""
        version = version_of(label)
        assert version is not None
        return await self.tracer.trace("memory:", version, depth, rebuild=rebuild, fresh=fresh)

    async def users(self, label: str, *, fresh: bool = False) -> list[str]:
        """Ask who used a version; the runs' ids, sorted."""
        version = version_of(label)
        assert version is not None
        users = await self.tracer.users("memory:", version, fresh=fresh)
        return sorted(run.facts.run.id for run in users)


def fields(record: RunRecord) -> dict[str, object]:
    """All that a record says."""
    return {name: getattr(record, name) for name in record.__struct_fields__}
