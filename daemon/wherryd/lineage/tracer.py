"""Questions about runs and lineage, answered from an index that is brought up to its store first.

Owns: one index a store, which projects have to be read for an answer, and which are known well enough.
Does not own: reading (``refresh``), how long a look counts (``looks``), the answers (``graph``, ``runs``).

Where a look counts for some time, an answer is made of what it saw, and of what this daemon has put since.
Never made so is the answer that something is not there; and a run that is named is looked at itself.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from typing import TypeVar

import anyio
import msgspec

from wherry.errors import NotFoundError
from wherryd.clock import Clock
from wherryd.lineage.graph import Graph, Version, trace
from wherryd.lineage.index import Damaged, Index, knows_runs, knows_version
from wherryd.lineage.looks import Look, begin
from wherryd.lineage.refresh import refresh, refresh_run, take_up
from wherryd.lineage.runs import KnownRun, find_runs, list_runs, users_of
from wherryd.registry.base import Registry

#: A walk that reaches into further projects is begun again when they are read; into so many at most.
_MOST_PROJECTS = 50

_T = TypeVar("_T")
OpenRegistry = Callable[[str], Awaitable[Registry]]


class Tracer:
    """Answers.

    Args:
        folder: where the indexes lie; whatever is there may go at any time.
        open_registry: gives the registry of a store's address.
        clock: tells how old a look is.

    Each question may be ``fresh``: all it takes is looked at now; with ``rebuild`` it is read anew as well.
    """

    def __init__(self, folder: Path, open_registry: OpenRegistry, clock: Clock) -> None:
        self._folder = folder
        self._open_registry = open_registry
        self._clock = clock
        self._indexes: dict[str, Index] = {}
        self._locks: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)

    async def runs(
        self,
        store: str,
        project: str,
        ids: Sequence[str],
        group: str,
        *,
        rebuild: bool,
        fresh: bool = False,
    ) -> list[KnownRun]:
        """Find the runs of a project; arguments as for ``runs.list_runs``. Raises ``StoreError``."""

        async def ask(asked: _Asked) -> list[KnownRun]:
            await asked.read_for(project, partial(knows_runs, project=project, ids=ids))
            for run_id in ids:
                await asked.read_run(project, run_id)
            return await asked.index.run(partial(list_runs, project=project, ids=ids, group=group))

        return await self._answer(store, ask, rebuild=rebuild, fresh=fresh) or []

    async def users(self, store: str, version: Version, *, fresh: bool = False) -> list[KnownRun]:
        """Find the runs that used a version, of whatever project. Raises ``StoreError``."""

        async def ask(asked: _Asked) -> list[KnownRun]:
            await asked.read_for(version.project, _knows(version))
            keys = await asked.index.run(partial(users_of, label=str(version)))
            await asked.read({project for project, _ in keys})
            return await asked.index.run(partial(find_runs, keys=keys))

        return await self._answer(store, ask, rebuild=False, fresh=fresh) or []

    async def trace(
        self, store: str, version: Version, depth: int, *, rebuild: bool, fresh: bool = False
    ) -> Graph:
        """Trace a version, through all projects that it leads to.

        Raises:
            NotFoundError: there is no such version, and never was.
            StoreError: the store can't be read now.
        """

        async def ask(asked: _Asked) -> Graph:
            await asked.read_for(version.project, _knows(version))
            while True:
                graph = await asked.index.run(partial(trace, start=version, depth=depth))
                if graph.projects <= asked.projects:
                    return graph
                if len(asked.projects) >= _MOST_PROJECTS:
                    return msgspec.structs.replace(graph, truncated=True)
                await asked.read(graph.projects)

        graph = await self._answer(store, ask, rebuild=rebuild, fresh=fresh)
        first = graph.versions[0] if graph else None
        if graph is None or first is None or not (first.created or first.deleted):
            raise NotFoundError(f"there is no {version}, or its record can't be read")
        return graph

    async def aclose(self) -> None:
        """Close the indexes."""
        indexes, self._indexes = self._indexes, {}
        for found in indexes.values():
            await found.aclose()

    async def _answer(
        self, store: str, ask: Callable[[_Asked], Awaitable[_T]], *, rebuild: bool, fresh: bool
    ) -> _T | None:
        """Ask an index, brought up to its store, and nobody else meanwhile; None: there is no store yet."""
        registry = await self._open_registry(store)
        identity = await registry.identify()
        if identity is None:
            return None
        name = hashlib.sha256(f"{store}\0{identity.store}".encode()).hexdigest()[:32]
        async with self._locks[name]:
            found = self._indexes.setdefault(name, Index(self._folder / f"{name}.db"))
            if rebuild:
                await found.begin_anew()
            elif fresh:
                found.looks.clear()
            try:
                return await ask(_Asked(found, registry, identity.store, self._clock))
            except Damaged:  # it is empty now
                return await ask(_Asked(found, registry, identity.store, self._clock))


def _knows(version: Version) -> Callable[[Connection], bool]:
    return partial(
        knows_version, project=version.project, name=version.name, version=version.number
    )


class _Asked:
    """An index while it is asked one question."""

    def __init__(self, index: Index, registry: Registry, store_id: str, clock: Clock) -> None:
        self.index = index
        self.projects: set[str] = set()
        """Those that are read."""
        self._registry = registry
        self._store_id = store_id
        self._clock = clock
        self._looked: set[str] = set()

    async def read(self, projects: set[str]) -> None:
        """Bring projects up to the store, each once, by a look where the last one counts no more."""
        for project in sorted(projects - self.projects):
            look = self.index.looks.get(project)
            if look is not None and look.counts(self._clock):
                await take_up(self.index, self._registry, self._store_id, project, look.since)
            else:
                await self._look(project)
        self.projects |= projects

    async def read_for(self, project: str, knows: Callable[[Connection], bool]) -> None:
        """Bring a project up to the store; look, too, where what is asked about is not known.

        Args:
            knows: asks the index for that.
        """
        await self.read({project})
        if project not in self._looked and not await self.index.run(knows):
            await self._look(project)

    async def read_run(self, project: str, run_id: str) -> None:
        """Bring one run of a project that was read up to the store."""
        if project not in self._looked:
            await refresh_run(self.index, self._registry, project, run_id)

    async def _look(self, project: str) -> None:
        began = begin(self._clock)
        since = self._registry.follow(project)  # the last look counts no more
        records = await refresh(self.index, self._registry, self._store_id, project)
        self.index.looks[project] = Look(began, records, since)
        self._looked.add(project)
