"""Runs, as an index knows them.

Owns: what the records of one run come to, what a run has logged and used. Does not own: the index.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from wherryd.model import NoteKind, RunFacts, RunInfo, RunRecord

#: So many runs at once: their records are read in one.
_MANY = 500
_RECORD = msgspec.json.Decoder(RunRecord)
_RUN = msgspec.json.Decoder(RunInfo)


class KnownRun(msgspec.Struct, frozen=True):
    """A run, and what it has to do with versions ("project/name:v3")."""

    project: str
    facts: RunFacts
    logged: list[str]
    used: list[str]
    first: str  # when it did something first, as far as is known; RFC 3339


def merged(records: Sequence[RunRecord], others: Iterable[RunInfo]) -> RunFacts:
    """Tell what a run is: as its latest record says that has the facts, which are whole each time.

    Args:
        others: the run as records of versions have it, the latest last.
    """
    latest = sorted(records, key=lambda record: record.written)
    whole = [record for record in latest if record.started]
    infos = [*others, *(record.run for record in latest)]
    if not whole:
        return RunFacts(infos[-1])
    last = whole[-1]
    return RunFacts(
        run=last.run,
        started=last.started,
        ended=last.ended,
        exit_code=last.exit_code,
        notes=last.notes,
        tags=last.tags,
        config=last.config,
        client=last.client,
    )


def describe_runs(db: sqlite3.Connection, keys: Sequence[tuple[str, str]]) -> list[KnownRun]:
    """Tell what runs are, given by projects and ids; what they have logged and used is left out."""
    if len(keys) < _MANY:
        return [describe_run(db, *key) for key in keys]
    bodies: defaultdict[tuple[str, str], list[bytes]] = defaultdict(list)
    for project, run_id, body in db.execute("SELECT project, run_id, body FROM run_records"):
        bodies[project, run_id].append(body)
    sql = (  # of "min" SQLite gives the columns of that row
        "SELECT project, run_id, min(created) AS created, run FROM versions"
        " WHERE run_id <> '' AND deleted = 0 GROUP BY project, run_id"
    )
    made = {(row["project"], row["run_id"]): row for row in db.execute(sql)}
    return [_described(*key, bodies[key], made.get(key)) for key in keys]


def describe_run(db: sqlite3.Connection, project: str, run_id: str) -> KnownRun:
    """Tell what a run is; what it has logged and used is left out."""
    sql = "SELECT body FROM run_records WHERE project = ? AND run_id = ?"
    bodies = [body for (body,) in db.execute(sql, (project, run_id))]
    sql = (
        "SELECT created, run FROM versions INDEXED BY versions_by_run"
        " WHERE project = ? AND run_id = ? AND deleted = 0 ORDER BY created LIMIT 1"
    )
    made = db.execute(sql, (project, run_id)).fetchone()
    return _described(project, run_id, bodies, made)


def _described(
    project: str, run_id: str, bodies: Iterable[bytes], made: sqlite3.Row | None
) -> KnownRun:
    """Put together what a run's records say, and the first version that it made."""
    records = [_RECORD.decode(body) for body in bodies]
    facts = merged(records, [_RUN.decode(made["run"]) if made else RunInfo(run_id)])
    times = [facts.started, *(record.written for record in records)]
    times += [made["created"]] if made else []
    return KnownRun(project, facts, [], [], first=min(filter(None, times), default=""))


def find_run(db: sqlite3.Connection, project: str, run_id: str) -> KnownRun:
    """Put together what is known of one run."""
    made = db.execute(
        "SELECT name, version FROM versions INDEXED BY versions_by_run"
        " WHERE project = ? AND run_id = ? AND deleted = 0 ORDER BY created, name, version",
        (project, run_id),
    )
    logged = [f"{project}/{row['name']}:v{row['version']}" for row in made]
    return msgspec.structs.replace(
        describe_run(db, project, run_id),
        logged=list(dict.fromkeys([*logged, *_logged_again(db, project, run_id)])),
        used=list(dict.fromkeys(_used(db, project, run_id))),
    )


def list_runs(
    db: sqlite3.Connection, project: str, ids: Sequence[str] = (), group: str = ""
) -> list[KnownRun]:
    """Find the runs of a project, those that began last first.

    Args:
        ids: none for all.
        group: "" for any.
    """
    found = db.execute(
        "SELECT run_id FROM run_records WHERE project = :project AND run_id <> ''"
        " UNION SELECT run_id FROM versions WHERE project = :project AND run_id <> ''",
        {"project": project},
    ).fetchall()
    wanted = [run_id for (run_id,) in found if not ids or run_id in ids]
    runs = describe_runs(db, [(project, run_id) for run_id in wanted])
    chosen = [run for run in runs if not group or run.facts.run.group == group]
    return find_runs(db, [(project, run.facts.run.id) for run in chosen])


def users_of(db: sqlite3.Connection, label: str) -> list[tuple[str, str]]:
    """Find projects and ids of the runs that used a version, ``project/name:v3``."""
    sql = (
        "SELECT project, run_id FROM run_links WHERE kind = :used AND value = :label"
        " UNION SELECT project, run_id FROM inputs INDEXED BY inputs_by_input"
        " CROSS JOIN versions USING (project, name, version)"
        " WHERE input = :label AND run_id <> ''"
    )
    return [tuple(row) for row in db.execute(sql, {"used": str(NoteKind.USED), "label": label})]


def find_runs(db: sqlite3.Connection, keys: Sequence[tuple[str, str]]) -> list[KnownRun]:
    """Put together what is known of runs, given by projects and ids; those that began last first."""
    runs = [find_run(db, *key) for key in keys]
    return sorted(runs, key=lambda run: (run.first, run.facts.run.id), reverse=True)


def _logged_again(db: sqlite3.Connection, project: str, run_id: str) -> Iterable[str]:
    """What another run had logged before, and the versions of drafts that it has a part in."""
    yield from _links(db, project, run_id, NoteKind.LOGGED)
    for draft in _links(db, project, run_id, NoteKind.DRAFT):
        sql = "SELECT project, name, version FROM versions WHERE request = ? AND deleted = 0"
        for row in db.execute(sql, (draft,)):
            yield f"{row['project']}/{row['name']}:v{row['version']}"


def _used(db: sqlite3.Connection, project: str, run_id: str) -> Iterable[str]:
    yield from _links(db, project, run_id, NoteKind.USED)
    sql = (
        "SELECT input FROM versions INDEXED BY versions_by_run"
        " CROSS JOIN inputs USING (project, name, version)"
        " WHERE project = ? AND run_id = ? ORDER BY created, input"
    )
    for (text,) in db.execute(sql, (project, run_id)):
        yield text


def _links(db: sqlite3.Connection, project: str, run_id: str, kind: NoteKind) -> list[str]:
    sql = (
        "SELECT DISTINCT value FROM run_links WHERE project = ? AND run_id = ? AND kind = ?"
        " ORDER BY key, value"
    )
    return [value for (value,) in db.execute(sql, (project, run_id, str(kind)))]
