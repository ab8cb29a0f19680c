"""Runs as a store has them: what ``Api().run``, ``runs``, ``logged_by`` and ``used_by`` give.

Owns: their names after W&B's. Does not own: a run that is going on in this process (``runs``), finding
versions (``stored``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wherry import messages as pb
from wherry import stored
from wherry.artifact import Artifact, StoredArtifact
from wherry.connection import connect
from wherry.errors import NotFoundError, UsageError
from wherry.paging import Paged
from wherry.wire.names import parse_artifact_ref


class KnownRun:
    """A run that has logged or used something.

    Args:
        shelf: where it was found.
        state: as the daemon told it.
    """

    def __init__(self, shelf: stored.Shelf, state: pb.RunState) -> None:
        self._shelf = shelf
        self._state = state

    def __repr__(self) -> str:
        return f"<Run {self.id!r} of project {self.project!r}, {self.state}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KnownRun) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[str, str, str]:
        return self._shelf.store, self.project, self.id

    @property
    def id(self) -> str:
        """The run's id."""
        return self._state.run.id

    @property
    def name(self) -> str:
        """The name that was given, else the id."""
        return self._state.run.name or self.id

    display_name = name

    @property
    def project(self) -> str:
        """Its project."""
        return self._state.run.project

    @property
    def entity(self) -> str | None:
        """The entity that it was given."""
        return self._state.run.entity or None

    @property
    def group(self) -> str | None:
        """The group of runs that work together."""
        return self._state.run.group or None

    @property
    def job_type(self) -> str | None:
        """What kind of work it did."""
        return self._state.run.job_type or None

    @property
    def path(self) -> list[str]:
        """Entity, project and id; without an entity where none was given."""
        return [part for part in (self.entity, self.project, self.id) if part]

    @property
    def config(self) -> dict[str, Any]:
        """Its config, as it was told last; what is no JSON as its text."""
        config: dict[str, Any] = json.loads(self._state.facts.config or b"{}")
        return config

    @property
    def tags(self) -> list[str]:
        """The tags that it was given."""
        return list(self._state.facts.tags)

    @property
    def notes(self) -> str | None:
        """The notes that it was given."""
        facts = self._state.facts
        return facts.notes if facts.HasField("notes") else None

    @property
    def created_at(self) -> str:
        """When it began, RFC 3339 in UTC."""
        return self._state.facts.started

    @property
    def ended_at(self) -> str | None:
        """When it ended; None where nobody told so: it is running, or was killed."""
        return self._state.facts.ended or None

    @property
    def exit_code(self) -> int | None:
        """What ``finish`` was told; None where it was told nothing."""
        facts = self._state.facts
        return facts.exit_code if facts.HasField("exit_code") else None

    @property
    def state(self) -> str:
        """``finished``, ``failed``, or ``running`` where its end was not told, as after a kill."""
        if not self.ended_at:
            return "running"
        return "failed" if self.exit_code else "finished"

    @property
    def url(self) -> None:
        """None: there is no web page."""

    def logged_artifacts(self, per_page: int = 100) -> RunArtifacts:
        """Find what it logged, in that order; a version that another run had logged before comes last.

        Args:
            per_page: accepted, without effect.
        """
        del per_page
        return RunArtifacts(self._shelf, self._state.logged)

    def used_artifacts(self, per_page: int = 100) -> RunArtifacts:
        """Find what it used; as ``logged_artifacts``."""
        del per_page
        return RunArtifacts(self._shelf, self._state.used)


class RunArtifacts(Paged[Artifact]):
    """Versions by their names, each read when it is asked for; those that were deleted are passed over."""

    def __init__(self, shelf: stored.Shelf, names: Sequence[str]) -> None:
        super().__init__()
        self._shelf = shelf
        self._names = iter(names)

    def _load(self) -> None:
        for name in self._names:
            ref = parse_artifact_ref(name)
            shelf = self._shelf._replace(project=ref.project or self._shelf.project)
            try:
                found = stored.find(shelf.place(ref.name), ref.version)
            except NotFoundError:
                continue
            self._found.append(StoredArtifact(found))
            return
        self._more = False


def find_runs(
    shelf: stored.Shelf, ids: Sequence[str] = (), group: str = "", *, fresh: bool = False
) -> list[KnownRun]:
    """Find runs, those that began last first.

    Args:
        ids: none for all.
        group: "" for any.
        fresh: look at the store now, however short ago that was.

    Raises:
        StoreError: the store can't be read now.
    """
    wanted = pb.ListRunsRequest(
        store=shelf.store, project=shelf.project, ids=ids, group=group, fresh=fresh
    )
    states = connect(shelf.home).whole_stream("ListRuns", wanted, pb.RunState)
    return [KnownRun(shelf, state) for state in states]


def find_run(shelf: stored.Shelf, run_id: str, *, fresh: bool = False) -> KnownRun:
    """Find one run. Raises ``NotFoundError``; as ``find_runs``."""
    for found in find_runs(shelf, [run_id], fresh=fresh):
        return found
    raise NotFoundError(
        f"There is no run {shelf.project}/{run_id}.",
        hint="Api().runs() lists those that have logged or used something.",
    )


_FILTERS: dict[str, Callable[[KnownRun], object]] = {
    "group": lambda run: run.group,
    "job_type": lambda run: run.job_type,
    "jobType": lambda run: run.job_type,
    "display_name": lambda run: run.name,
    "displayName": lambda run: run.name,
    "state": lambda run: run.state,
}


def choose(
    shelf: stored.Shelf,
    filters: Mapping[str, object],
    order: str,
    group: str,
    *,
    fresh: bool = False,
) -> list[KnownRun]:
    """Find runs as ``Api().runs`` is asked for them. Raises ``UsageError``; as ``find_runs``."""
    if order not in ("-created_at", "+created_at", "created_at"):
        raise UsageError(
            f"Runs can't be ordered by {order!r}.", hint="Use '-created_at' or '+created_at'."
        )
    unknown = [key for key in filters if key not in _FILTERS]
    if unknown:
        raise UsageError(
            f"Runs can't be filtered by {unknown[0]!r}.", hint=f"Use one of {', '.join(_FILTERS)}."
        )
    found = find_runs(shelf, group=group, fresh=fresh)
    chosen = [
        run for run in found if all(_FILTERS[key](run) == value for key, value in filters.items())
    ]
    return chosen if order.startswith("-") else chosen[::-1]


def logger_of(version: stored.StoredVersion, *, fresh: bool = False) -> KnownRun | None:
    """Find the run that logged a version; None where its record names none."""
    record = version.record
    if not record.run.id:
        return None
    shelf = stored.Shelf(version.home, record.store, record.project)
    try:
        return find_run(shelf, record.run.id, fresh=fresh)
    except NotFoundError:  # its versions are deleted, and its own record is on the way
        return KnownRun(shelf, pb.RunState(run=record.run))


def users_of(version: stored.StoredVersion, *, fresh: bool = False) -> list[KnownRun]:
    """Find the runs that used a version, those that began last first."""
    record = version.record
    label = f"{record.project}/{record.name}:v{record.version}"
    wanted = pb.ListRunsRequest(store=record.store, used=label, fresh=fresh)
    states = connect(version.home).whole_stream("ListRuns", wanted, pb.RunState)
    return [
        KnownRun(stored.Shelf(version.home, record.store, state.run.project), state)
        for state in states
    ]
