"""What a version was made of, and what was made of it.

Owns: the graph as users get it, and its forms: a tree for people, JSON, Graphviz's DOT, Mermaid. Does not
own: the walk (the daemon's).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from wherry import messages as pb
from wherry.connection import connect
from wherry.wire.canonical import Json

_TIMEOUT_S = 600.0


class LineageVersion(NamedTuple):
    """A version in a graph."""

    project: str
    name: str
    version: str  # "v3"
    type: str | None  # None where it is gone
    created: str | None  # RFC 3339
    deleted: bool
    steps: int  # runs between it and the one that was asked for; below 0 towards its sources
    sources: tuple[str, ...]  # "project/name:v3": what it was made of

    @property
    def label(self) -> str:
        """``project/name:v3``."""
        return f"{self.project}/{self.name}:{self.version}"


class LineageRun(NamedTuple):
    """A run in a graph."""

    project: str
    id: str
    name: str | None
    group: str | None
    job_type: str | None
    started: str | None  # RFC 3339
    ended: str | None
    used: tuple[str, ...]  # "project/name:v3", of the versions in the graph
    logged: tuple[str, ...]

    @property
    def label(self) -> str:
        """Its name, else its id; and what kind of work it did."""
        kind = f" ({self.job_type})" if self.job_type else ""
        return f"run {self.name or self.id}{kind}"


class Lineage:
    """A version, the versions that it was made of and that were made of it, and the runs between them.

    Printed, it is a tree. ``versions`` begins with the version that was asked for.
    """

    def __init__(self, told: pb.Lineage) -> None:
        labels = [f"{each.project}/{each.name}:v{each.version}" for each in told.versions]
        self.versions = [_version(each, labels) for each in told.versions]
        used: list[list[str]] = [[] for _ in told.runs]
        logged: list[list[str]] = [[] for _ in told.runs]
        for edge in told.edges:
            (used if edge.used else logged)[edge.run].append(labels[edge.version])
        self.runs = list(map(_run, told.runs, used, logged))
        self.truncated = told.truncated
        """Whether there is more, farther away."""

    def __repr__(self) -> str:
        return f"<Lineage of {self.versions[0].label!r}: {len(self.versions)} versions>"

    def __str__(self) -> str:
        more = ["… and more, farther away"] if self.truncated else []
        return "\n".join([*_lines(_Tree(self).root(self.versions[0].label)), *more])

    def as_dict(self) -> dict[str, Json]:
        """Give the graph as JSON data."""
        return {
            "versions": [
                {**version._asdict(), "sources": list(version.sources)} for version in self.versions
            ],
            "runs": [
                {**run._asdict(), "used": list(run.used), "logged": list(run.logged)}
                for run in self.runs
            ],
            "truncated": self.truncated,
        }

    def as_dot(self) -> str:
        """Write the graph for Graphviz: ``dot -Tsvg``."""
        lines = ["digraph lineage {", "  rankdir=LR;"]
        for number, version in enumerate(self.versions):
            bold = ",style=bold" if number == 0 else ""
            lines.append(f"  v{number} [shape=box{bold},label={_quoted(version.label)}];")
        for number, run in enumerate(self.runs):
            lines.append(f"  r{number} [shape=ellipse,label={_quoted(run.label)}];")
        lines += [f"  {start} -> {end};" for start, end in self._arrows()]
        return "\n".join([*lines, "}"])

    def as_mermaid(self) -> str:
        """Write the graph for Mermaid, as Markdown pages of many sites show it."""
        lines = ["flowchart LR"]
        for number, version in enumerate(self.versions):
            lines.append(f'  v{number}["{_entities(version.label)}"]')
        for number, run in enumerate(self.runs):
            lines.append(f'  r{number}(["{_entities(run.label)}"])')
        lines += [f"  {start} --> {end}" for start, end in self._arrows()]
        return "\n".join(lines)

    def _arrows(self) -> Iterator[tuple[str, str]]:
        numbers = {version.label: number for number, version in enumerate(self.versions)}
        for number, run in enumerate(self.runs):
            yield from ((f"v{numbers[label]}", f"r{number}") for label in run.used)
            yield from ((f"r{number}", f"v{numbers[label]}") for label in run.logged)


def trace(
    home: Path,
    store: str,
    version: pb.Version,
    depth: int | None = None,
    *,
    rebuild: bool = False,
    fresh: bool = False,
) -> Lineage:
    """Trace a version that is in a store.

    Args:
        home: whose daemon looks.
        store: its address.
        version: which one.
        depth: how many runs far; None: as far as it goes.
        rebuild: read the store anew, whatever this machine knows of it.
        fresh: look at the store now, however short ago that was.

    Raises:
        NotFoundError: it is not there.
        StoreError: the store can't be read now.
    """
    wanted = pb.TraceLineageRequest(
        store=store,
        project=version.project,
        name=version.name,
        version=version.version,
        depth=depth or 0,
        rebuild=rebuild,
        fresh=fresh,
    )
    told = connect(home).unary("TraceLineage", wanted, pb.Lineage, timeout_s=_TIMEOUT_S)
    return Lineage(told)


def _version(told: pb.LineageVersion, labels: Sequence[str]) -> LineageVersion:
    return LineageVersion(
        told.project,
        told.name,
        f"v{told.version}",
        told.type or None,
        told.created or None,
        told.deleted,
        told.steps,
        tuple(labels[source] for source in told.sources),
    )


def _run(told: pb.LineageRun, used: Sequence[str], logged: Sequence[str]) -> LineageRun:
    run = told.run
    return LineageRun(
        run.project,
        run.id,
        run.name or None,
        run.group or None,
        run.job_type or None,
        told.started or None,
        told.ended or None,
        tuple(used),
        tuple(logged),
    )


# ── as a tree ──────────────────────────────────────────────────────────────────────────────────
class _Branch(NamedTuple):
    text: str
    key: str  # what comes twice has its branches the first time only
    below: Callable[[], list[_Branch]]


class _Tree:
    """A graph as branches."""

    def __init__(self, lineage: Lineage) -> None:
        self._versions = {version.label: version for version in lineage.versions}
        self._makers: defaultdict[str, list[LineageRun]] = defaultdict(list)
        self._users: defaultdict[str, list[LineageRun]] = defaultdict(list)
        self._made: defaultdict[str, list[str]] = defaultdict(list)
        for run in lineage.runs:
            for label in run.logged:
                self._makers[label].append(run)
            for label in run.used:
                self._users[label].append(run)
        for version in lineage.versions:
            for source in version.sources:
                self._made[source].append(version.label)

    def root(self, label: str) -> _Branch:
        """The version that was asked for, with its sources, and what was made of it."""
        sources = _Branch("made of", "", lambda: self._sources(label))
        uses = _Branch("used by", "", lambda: self._uses(label))
        below = [branch for branch in (sources, uses) if branch.below()]
        return _Branch(self._with_makers(label), "", lambda: below)

    def _sources(self, label: str) -> list[_Branch]:
        return [
            _Branch(self._with_makers(each), f"of {each}", partial(self._sources, each))
            for each in self._versions[label].sources
        ]

    def _uses(self, label: str) -> list[_Branch]:
        """The runs that used a version, each with what it made of it; then what no known run made."""
        users: dict[LineageRun, list[str]] = {run: [] for run in self._users[label]}
        left = []
        for each in dict.fromkeys(self._made[label]):
            makers = self._makers[each]
            # One that has used this is its maker, where several have logged it.
            maker = next((run for run in makers if run in users), makers[0] if makers else None)
            if maker is not None:
                users.setdefault(maker, []).append(each)
            else:
                left.append(each)
        branches = [
            _Branch(run.label, "", partial(self._results, made)) for run, made in users.items()
        ]
        return branches + self._results(left)

    def _results(self, labels: Iterable[str]) -> list[_Branch]:
        return [
            _Branch(f"{each}  {self._kind(each)}", f"by {each}", partial(self._uses, each))
            for each in labels
        ]

    def _with_makers(self, label: str) -> str:
        makers = ", ".join(run.label for run in self._makers[label])
        logged = f"  logged by {makers}" if makers else ""
        return f"{label}  {self._kind(label)}{logged}"

    def _kind(self, label: str) -> str:
        version = self._versions[label]
        return "deleted" if version.deleted else version.type or "not there"


def _lines(root: _Branch) -> Iterator[str]:
    """Draw branches; without recursion, since one checkpoint may follow another ten thousand times."""
    yield root.text
    shown: set[str] = set()
    waiting = [(branch, "", at == 0) for at, branch in enumerate(reversed(root.below()))]
    while waiting:
        branch, indent, is_last = waiting.pop()
        is_again = branch.key in shown
        below = branch.below()
        above = "  (its branches are above)" if is_again and below else ""
        yield f"{indent}{'└─ ' if is_last else '├─ '}{branch.text}{above}"
        if branch.key:
            shown.add(branch.key)
        inner = indent + ("   " if is_last else "│  ")
        if not is_again:
            waiting += [(each, inner, at == 0) for at, each in enumerate(reversed(below))]


def _quoted(text: str) -> str:
    """A string of DOT: backslashes and quotes escaped."""
    return json.dumps(text, ensure_ascii=False)


def _entities(text: str) -> str:
    """A label of Mermaid: what would end it is written as an entity code (its "Entity codes" page)."""
    return "".join(f"#{ord(each)};" if each in '"#&<>\\' else each for each in text)
