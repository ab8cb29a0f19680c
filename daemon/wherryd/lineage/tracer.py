"""Questions about runs and lineage, answered from an index that is brought up to its store first.

Owns: one index a store, which projects have to be read for an answer. Does not own: reading (``refresh``),
the answers (``graph``, ``runs``).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import msgspec

from wherry.errors import NotFoundError
from wherryd.lineage.graph import Graph, Version, trace
from wherryd.lineage.index import Damaged, Index
from wherryd.lineage.refresh import refresh
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
    """

    def __init__(self, folder: Path, open_registry: OpenRegistry) -> None:
        self._folder = folder
        self._open_registry = open_registry
        self._indexes: dict[str, Index] = {}
        self._locks: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)

    async def runs(
        self, store: str, project: str, ids: Sequence[str], group: str, *, rebuild: bool
    ) -> list[KnownRun]:
        """Find the runs of a project; arguments as for ``runs.list_runs``. Raises ``StoreError``."""

        async def ask(asked: _Asked) -> list[KnownRun]:
            await asked.read({project})
            return await asked.index.run(partial(list_runs, project=project, ids=ids, group=group))

        return await self._answer(store, ask, rebuild=rebuild) or []

    async def users(self, store: str, version: Version) -> list[KnownRun]:
        """Find the runs that used a version, of whatever project. Raises ``StoreError``."""

        async def ask(asked: _Asked) -> list[KnownRun]:
            await asked.read({version.project})
            keys = await asked.index.run(partial(users_of, label=str(version)))
            await asked.read({project for project, _ in keys})
            return await asked.index.run(partial(find_runs, keys=keys))

        return await self._answer(store, ask, rebuild=False) or []

    async def trace(self, store: str, version: Version, depth: int, *, rebuild: bool) -> Graph:
        """Trace a version, through all projects that it leads to.

        Raises:
            NotFoundError: there is no such version, and never was.
            StoreError: the store can't be read now.
        """

        async def ask(asked: _Asked) -> Graph:
            await asked.read({version.project})
            while True:
                graph = await asked.index.run(partial(trace, start=version, depth=depth))
                if graph.projects <= asked.projects:
                    return graph
                if len(asked.projects) >= _MOST_PROJECTS:
                    return msgspec.structs.replace(graph, truncated=True)
                await asked.read(graph.projects)

        graph = await self._answer(store, ask, rebuild=rebuild)
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
        self, store: str, ask: Callable[[_Asked], Awaitable[_T]], *, rebuild: bool
    ) -> _T | None:
        """Ask an index, as its store is now, and nobody else meanwhile; None where there is no store yet."""
        registry = await self._open_registry(store)
        identity = await registry.identify()
        if identity is None:
            return None
        name = hashlib.sha256(f"{store}\0{identity.store}".encode()).hexdigest()[:32]
        async with self._locks[name]:
            found = self._indexes.setdefault(name, Index(self._folder / f"{name}.db"))
            if rebuild:
                await found.begin_anew()
            try:
                return await ask(_Asked(found, registry, identity.store))
            except Damaged:  # it is empty now
                return await ask(_Asked(found, registry, identity.store))


class _Asked:
    """An index while it is asked one question."""

    def __init__(self, index: Index, registry: Registry, store_id: str) -> None:
        self.index = index
        self.projects: set[str] = set()
        """Those that are as the store is now."""
        self._registry = registry
        self._store_id = store_id

    async def read(self, projects: set[str]) -> None:
        """Bring projects up to the store, each once."""
        for project in sorted(projects - self.projects):
            await refresh(self.index, self._registry, self._store_id, project)
        self.projects |= projects
