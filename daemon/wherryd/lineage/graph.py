"""What a version was made of, and what was made of it: a walk through an index.

Owns: what counts as made of what. Does not own: the index (``index``), how it is told (``rpc``).

A version's record names the run that logged it and what that run had used until then: so sources are older
than what was made of them, and no walk towards sources, or away from them, comes in a circle. Two things are
left out because a run would be drawn as making what it was made of: a run that logged a version again which
it had used is shown as its user alone; and one that used what it had logged itself, as its maker.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from wherry.errors import BadName
from wherry.wire.names import is_version, parse_artifact_ref
from wherryd.lineage.runs import KnownRun, describe_runs
from wherryd.model import NoteKind

#: So many versions are told at once.
MOST = 10_000
#: After so many questions about single versions, all is read in one; of an artifact's versions, so many.
_MANY = 1_000


class Version(msgspec.Struct, frozen=True, order=True):
    """Which version is meant."""

    project: str
    name: str
    number: int

    def __str__(self) -> str:
        return f"{self.project}/{self.name}:v{self.number}"


class RunKey(msgspec.Struct, frozen=True, order=True):
    """Which run is meant."""

    project: str
    run_id: str


class VersionNode(msgspec.Struct, frozen=True):
    """A version in the graph."""

    version: Version
    type: str  # "" where its record is gone, or deleted
    created: str
    deleted: bool
    steps: int  # runs between it and the one that was asked for; below 0 towards its sources
    sources: list[Version]  # what it was made of


class Edge(msgspec.Struct, frozen=True):
    """What a run had to do with a version."""

    version: Version
    run: RunKey
    used: bool  # else the run has logged it


class Graph(msgspec.Struct, frozen=True):
    """The version that was asked for, first, and all that it was made of or that was made of it."""

    versions: list[VersionNode]
    runs: list[KnownRun]
    edges: list[Edge]
    truncated: bool  # there is more, farther away

    @property
    def projects(self) -> set[str]:
        """All that it reaches into; also those of runs, which may have made something there."""
        return {node.version.project for node in self.versions} | {run.project for run in self.runs}


def version_of(text: str) -> Version | None:
    """Read ``project/name:v3``; None where a record names something else."""
    try:
        ref = parse_artifact_ref(text)
    except BadName:
        return None
    if ref.project is None or not is_version(ref.version):
        return None
    return Version(ref.project, ref.name, int(ref.version[1:]))


def trace(db: sqlite3.Connection, start: Version, depth: int = 0, most: int = MOST) -> Graph:
    """Walk from a version to its sources, and to what was made of it.

    Args:
        depth: how many runs far; 0: as far as it goes.
        most: how many versions at most.
    """
    walk = _Walk(db, most)
    walk.add(start, 0)
    walk.go(start, -1, depth)
    walk.go(start, 1, depth)
    for version in list(walk.steps):
        walk.link(version)
    nodes = [walk.node(version) for version in walk.steps]
    edges = [edge for edge in walk.edges if edge.version in walk.steps]
    runs = describe_runs(db, [(key.project, key.run_id) for key in walk.runs])
    return Graph(nodes, runs, edges, walk.truncated)


class _Walk:
    """What was found so far, in the order in which it was."""

    def __init__(self, db: sqlite3.Connection, most: int) -> None:
        self._db = db
        self._most = most
        self.steps: dict[Version, int] = {}
        self.runs: dict[RunKey, None] = {}
        self.edges: dict[Edge, None] = {}
        self.truncated = False
        self._asked = 0
        self._links: dict[tuple[str, str], list[RunKey]] | None = None
        self._rows: dict[Version, sqlite3.Row | None] = {}
        self._sources_of: defaultdict[Version, dict[Version, None]] = defaultdict(dict)

    def go(self, start: Version, way: Literal[-1, 1], depth: int) -> None:
        """Walk one way: -1 towards sources, 1 away from them."""
        found, steps = {start}, deque([(start, 0)])
        while steps:
            version, far = steps.popleft()
            is_far = depth > 0 and far == depth
            for nearby in self._sources(version) if way < 0 else self._made_of(version):
                if nearby in found:
                    continue
                if is_far:
                    self.truncated = True
                elif self.add(nearby, way * (far + 1)):
                    found.add(nearby)
                    steps.append((nearby, far + 1))

    def add(self, version: Version, steps: int) -> bool:
        """Take a version in; False where there are too many."""
        if version not in self.steps:
            if len(self.steps) >= self._most:
                self.truncated = True
                return False
            self.steps[version] = steps
        return True

    def link(self, version: Version) -> None:
        """Add the runs that have to do with a version, whatever else they did."""
        maker = self._maker(version)
        users = set(self._linked(NoteKind.USED, str(version)))
        loggers = set(self._linked(NoteKind.LOGGED, str(version)))
        row = self._row(version)
        if row is not None:
            loggers.update(self._linked(NoteKind.DRAFT, row["request"]))
        for run in sorted(users - {maker}):
            self._edge(version, run, used=True)
        for run in sorted(loggers - users):
            self._edge(version, run, used=False)
        if maker is not None:
            self._edge(version, maker, used=False)

    def node(self, version: Version) -> VersionNode:
        """Describe a version."""
        row, steps = self._row(version), self.steps[version]
        sources = [each for each in self._sources_of[version] if each in self.steps]
        if row is None:
            return VersionNode(version, "", "", deleted=False, steps=steps, sources=sources)
        is_deleted = bool(row["deleted"])
        return VersionNode(version, row["type"], row["created"], is_deleted, steps, sources)

    def _sources(self, version: Version) -> Iterator[Version]:
        sql = "SELECT input FROM inputs WHERE project = ? AND name = ? AND version = ?"
        maker = self._maker(version)
        for (text,) in self._db.execute(sql, _values(version)).fetchall():
            source = version_of(text)
            if source is not None and source != version:
                self._made(version, maker, source)
                yield source

    def _made_of(self, version: Version) -> Iterator[Version]:
        sql = "SELECT project, name, version FROM inputs WHERE input = ?"
        for row in self._db.execute(sql, (str(version),)).fetchall():
            made = Version(*row)
            if made != version:
                self._made(made, self._maker(made), version)
                yield made

    def _made(self, version: Version, maker: RunKey | None, source: Version) -> None:
        self._sources_of[version][source] = None
        if maker is not None and maker != self._maker(source):
            self._edge(source, maker, used=True)

    def _maker(self, version: Version) -> RunKey | None:
        """The run that the version's record names."""
        row = self._row(version)
        return RunKey(version.project, row["run_id"]) if row and row["run_id"] else None

    def _row(self, version: Version) -> sqlite3.Row | None:
        """What the index has of a version, asked for once."""
        if version not in self._rows:
            self._read_rows(version, _MANY if len(self._rows) > _MANY else 1)
        return self._rows.setdefault(version, None)

    def _read_rows(self, version: Version, count: int) -> None:
        """Read a version, and of its artifact those around it."""
        first = version.number - version.number % count
        sql = (
            "SELECT project, name, version, type, created, deleted, request, run_id FROM versions"
            " WHERE project = ? AND name = ? AND version >= ? AND version < ?"
        )
        place = version.project, version.name, first, first + count
        for row in self._db.execute(sql, place):
            self._rows[Version(row["project"], row["name"], row["version"])] = row

    def _linked(self, kind: NoteKind, value: str) -> Iterable[RunKey]:
        """The runs that have used a version, say: asked for one by one; where that is often, all at once."""
        self._asked += 1
        if self._asked > _MANY:
            self._links = self._links or self._read_links()
            return self._links.get((str(kind), value), ())
        sql = "SELECT DISTINCT project, run_id FROM run_links WHERE kind = ? AND value = ?"
        return [RunKey(*row) for row in self._db.execute(sql, (str(kind), value))]

    def _read_links(self) -> dict[tuple[str, str], list[RunKey]]:
        links: dict[tuple[str, str], list[RunKey]] = {}
        sql = "SELECT DISTINCT kind, value, project, run_id FROM run_links"
        for kind, value, *run in self._db.execute(sql):
            links.setdefault((kind, value), []).append(RunKey(*run))
        return links

    def _edge(self, version: Version, run: RunKey, *, used: bool) -> None:
        self.runs[run] = None
        self.edges[Edge(version, run, used)] = None


def _values(version: Version) -> tuple[str, str, int]:
    return version.project, version.name, version.number
