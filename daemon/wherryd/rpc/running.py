"""``NoteRun``, ``ListRuns``, ``TraceLineage``: what runs do, and what was made of what.

Owns: which words may be said, and waiting until they are in the store. Does not own: writing them there
(``commit.run_records``), the answers (``lineage``).
"""

from __future__ import annotations

import anyio
import msgspec

from wherry.errors import DaemonLeaving, UsageError
from wherry.wire import wherry_pb2 as pb
from wherry.wire.names import check_name, parse_artifact_ref
from wherryd.life import LEAVING, Life
from wherryd.lineage.graph import Graph, Version, version_of
from wherryd.lineage.runs import KnownRun
from wherryd.lineage.tracer import Tracer
from wherryd.model import NoteKind, RunFacts, RunInfo
from wherryd.news import News
from wherryd.queue.base import RUNS, Note, Queue, RunPlace
from wherryd.rpc.messages import metadata_of, run_message, run_of, store_of
from wherryd.rpc.service import Send

#: So long a client that waits is kept; then it asks again.
_WAIT_S = 20.0


class RunningCalls:
    """The calls.

    Args:
        default_store: for clients that name none.
    """

    def __init__(
        self, queue: Queue, news: News, life: Life, tracer: Tracer, default_store: str
    ) -> None:
        self._queue = queue
        self._news = news
        self._life = life
        self._tracer = tracer
        self._default_store = default_store

    async def note_run(self, request: pb.NoteRunRequest) -> pb.NoteRunReply:
        """Note what a run is and uses."""
        self._life.check_staying()
        notes = self._notes(request)
        if notes:
            await self._queue.note_run(notes, held=request.offline)
        store = store_of(request.store, self._default_store)
        run = store, request.run.project, request.run.id
        if request.wait:
            with anyio.move_on_after(_WAIT_S):
                await self._wait_recorded(*run)
        return pb.NoteRunReply(recorded=not await self._queue.is_run_open(*run))

    async def list_runs(self, request: pb.ListRunsRequest, send: Send) -> None:
        """The runs of a project, those that began last first."""
        store = store_of(request.store, self._default_store)
        if request.used:
            version = _version_of(request.used)
            found = await self._tracer.users(store, version, fresh=request.fresh)
        else:
            project = check_name("project", request.project)
            found = await self._tracer.runs(
                store,
                project,
                list(request.ids),
                request.group,
                rebuild=request.rebuild,
                fresh=request.fresh,
            )
        for run in found:
            await send(_run_state(run))

    async def trace_lineage(self, request: pb.TraceLineageRequest) -> pb.Lineage:
        """What a version was made of, and what was made of it."""
        if request.version < 0 or request.depth < 0:
            raise UsageError("a version's number and a depth are 0 or more")
        store = store_of(request.store, self._default_store)
        version = Version(
            check_name("project", request.project),
            check_name("artifact", request.name),
            request.version,
        )
        graph = await self._tracer.trace(
            store, version, request.depth, rebuild=request.rebuild, fresh=request.fresh
        )
        return _lineage(graph)

    def _notes(self, request: pb.NoteRunRequest) -> list[Note]:
        run = run_of(request.run)
        project = check_name("project", request.run.project)
        store = store_of(request.store, self._default_store)
        place = RunPlace(store, project, project, check_name("run id", run.id))
        notes = []
        if request.HasField("facts"):
            facts = msgspec.json.encode(_facts_of(request.facts, run)).decode()
            notes.append(Note(place, run, NoteKind.FACTS, facts, bool(request.facts.ended)))
        for text in request.logged:
            if _owner(text) != project:
                raise UsageError(f"{text!r} is no version of project {project!r}")
            notes.append(Note(place, run, NoteKind.LOGGED, text))
        for text in request.used:
            owner = _owner(text)
            notes.append(Note(place, run, NoteKind.USED, text))
            if owner != project:  # who looks there for its users has to read nothing else
                there = msgspec.structs.replace(place, place=owner)
                notes.append(Note(there, run, NoteKind.USED, text))
        return notes

    async def _wait_recorded(self, store: str, project: str, run_id: str) -> None:
        with self._news.watch(RUNS, LEAVING) as watch:
            while await self._queue.is_run_open(store, project, run_id):
                await watch.wait_news()
                if self._life.is_leaving:
                    raise DaemonLeaving(
                        f"the daemon is about to end ({self._life.why})",
                        hint="Call again: the next one answers.",
                    )


def _version_of(text: str) -> Version:
    version = version_of(text)
    if version is None:
        raise UsageError(f"{text!r} is no version", hint="Write 'project/name:v3'.")
    return version


def _owner(text: str) -> str:
    ref = parse_artifact_ref(text)
    if ref.project is None:
        raise UsageError(f"{text!r} names no project")
    return ref.project


def _facts_of(facts: pb.RunFacts, run: RunInfo) -> RunFacts:
    return RunFacts(
        run=run,
        started=facts.started,
        ended=facts.ended,
        exit_code=facts.exit_code if facts.HasField("exit_code") else None,
        notes=facts.notes if facts.HasField("notes") else None,
        tags=list(facts.tags),
        config=metadata_of(facts.config),
        client=facts.client,
    )


def _run_state(run: KnownRun) -> pb.RunState:
    facts = run.facts
    told = pb.RunFacts(
        started=facts.started or run.first,
        ended=facts.ended,
        exit_code=facts.exit_code,
        notes=facts.notes,
        tags=facts.tags,
        config=msgspec.json.encode(facts.config),
        client=facts.client,
    )
    return pb.RunState(
        run=run_message(facts.run, run.project), facts=told, logged=run.logged, used=run.used
    )


def _lineage(graph: Graph) -> pb.Lineage:
    versions = {node.version: number for number, node in enumerate(graph.versions)}
    runs = {(run.project, run.facts.run.id): number for number, run in enumerate(graph.runs)}
    return pb.Lineage(
        versions=[
            pb.LineageVersion(
                project=node.version.project,
                name=node.version.name,
                version=node.version.number,
                type=node.type,
                created=node.created,
                deleted=node.deleted,
                steps=node.steps,
                sources=[versions[source] for source in node.sources],
            )
            for node in graph.versions
        ],
        runs=[
            pb.LineageRun(
                run=run_message(run.facts.run, run.project),
                started=run.facts.started or run.first,
                ended=run.facts.ended,
            )
            for run in graph.runs
        ],
        edges=[
            pb.LineageEdge(
                version=versions[edge.version],
                run=runs[edge.run.project, edge.run.run_id],
                used=edge.used,
            )
            for edge in graph.edges
        ],
        truncated=graph.truncated,
    )
