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

import anyio

from wherry.errors import NotFoundError
from wherryd.lineage.graph import Graph, Version, trace
from wherryd.lineage.index import Index
from wherryd.lineage.refresh import refresh
from wherryd.lineage.runs import KnownRun, find_runs, list_runs, users_of
from wherryd.registry.base import Registry

#: A walk that reaches into further projects is begun again when they are read; so often at most.
_MOST_PROJECTS = 50

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
        found = await self._fresh(store, {project}, rebuild=rebuild)
        if found is None:
            return []
        return await found.run(partial(list_runs, project=project, ids=ids, group=group))

    async def users(self, store: str, version: Version) -> list[KnownRun]:
        """Find the runs that used a version, of whatever project. Raises ``StoreError``."""
        found = await self._fresh(store, {version.project}, rebuild=False)
        if found is None:
            return []
        keys = await found.run(partial(users_of, label=str(version)))
        others = {project for project, _ in keys} - {version.project}
        await self._fresh(store, others, rebuild=False)
        return await found.run(partial(find_runs, keys=keys))

    async def trace(self, store: str, version: Version, depth: int, *, rebuild: bool) -> Graph:
        """Trace a version, through all projects that it leads to.

        Raises:
            NotFoundError: there is no such version, and never was.
            StoreError: the store can't be read now.
        """
        wanted, read = {version.project}, set[str]()
        while True:
            found = await self._fresh(store, wanted - read, rebuild=rebuild and not read)
            if found is None:
                raise _not_found(version)
            read |= wanted
            graph = await found.run(partial(trace, start=version, depth=depth))
            if not graph.versions[0].created and not graph.versions[0].deleted:
                raise _not_found(version)
            wanted = graph.projects
            if wanted <= read or len(read) >= _MOST_PROJECTS:
                return graph

    async def aclose(self) -> None:
        """Close the indexes."""
        indexes, self._indexes = self._indexes, {}
        for found in indexes.values():
            await found.aclose()

    async def _fresh(self, store: str, projects: set[str], *, rebuild: bool) -> Index | None:
        """The index, as the store is now; None where there is no store yet."""
        registry = await self._open_registry(store)
        identity = await registry.identify()
        if identity is None:
            return None
        name = hashlib.sha256(f"{store}\0{identity.store}".encode()).hexdigest()[:32]
        async with self._locks[name]:
            found = self._indexes.setdefault(name, Index(self._folder / f"{name}.db"))
            if rebuild:
                await found.begin_anew()
            for project in sorted(projects):
                await refresh(found, registry, identity.store, project)
        return found


def _not_found(version: Version) -> NotFoundError:
    return NotFoundError(f"there is no {version}")
