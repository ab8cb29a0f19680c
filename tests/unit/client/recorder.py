"""A daemon that only writes down what it is told: a stock grpcio server on the home's socket.

It answers ``Log`` at once and tells in ``Wait`` whatever states a test has set, so that the client's
side of each call can be looked at by itself.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Self

import grpc
from google.protobuf.message_factory import GetMessageClass

from wherry.wire import PROTOCOL, VERSION, places
from wherry.wire import wherry_pb2 as pb

_SERVICE = pb.DESCRIPTOR.services_by_name["Daemon"]
ENDED = ("done", "failed", "cancelled")


class Refusal(Exception):
    """What a call answers instead of a message."""

    def __init__(self, name: str, message: str = "refused") -> None:
        super().__init__(message)
        self.name = name


class Logged(NamedTuple):
    """One ``Log`` stream that came to its end."""

    header: pb.LogHeader
    entries: list[pb.Entry]
    batches: int

    @property
    def paths(self) -> list[str]:
        return [entry.path for entry in self.entries]


class Recorder:
    """Serves one home; as a context manager, until the block's end."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.logged: list[Logged] = []
        self.removed: dict[str, list[str]] = {}  # paths taken out, by request id
        self.lookups: dict[str, list[pb.Lookup]] = {}  # by request id
        self.cut = 0  # Log streams that did not come to their end
        self.noted: list[pb.NoteRunRequest] = []
        self.runs: list[pb.RunState] = []
        self.asked_runs: list[pb.ListRunsRequest] = []
        self.lineage = pb.Lineage()
        self.traced: list[pb.TraceLineageRequest] = []
        self.linked: list[pb.LinkRequest] = []
        self.waits: list[pb.WaitRequest] = []
        self.refusals: dict[str, list[Refusal]] = {}
        self.versions: list[pb.Version] = []
        self.manifest: list[pb.Entry] = []
        self.chunks: list[pb.FileChunk] = []
        self.places: list[pb.FetchReply] = []
        self.edits: list[pb.EditVersionRequest] = []
        self.deleted: list[pb.DeleteVersionRequest] = []
        self.asked_places: list[pb.FetchFilesRequest] = []
        self.asked_files: list[pb.ReadFilesRequest] = []
        self.asked_lists: list[pb.ListVersionsRequest] = []
        self.asked_names: list[pb.ListArtifactsRequest] = []
        self.knows_pages = True  # False: as a daemon of before there were pages
        self.read: dict[str, bytes] = {}  # captured bytes by path, as they were at the answer
        self._states: dict[str, pb.RequestState] = {}
        self._changed = threading.Condition()
        self._stopping = False
        # An open stream keeps a thread, in each process that logs.
        self._server = grpc.server(ThreadPoolExecutor(200))
        handlers = {method.name: self._handler(method) for method in _SERVICE.methods}
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE.full_name, handlers),)
        )

    def __enter__(self) -> Self:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._server.add_insecure_port(f"unix:{places.socket_path(self.home)}")
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._server.stop(None).wait()

    # ── what a test says ───────────────────────────────────────────────────────────────────────
    def tell(self, request_id: str, **fields: Any) -> None:
        """Change a request's state; those who wait hear of it."""
        with self._changed:
            state = self._states[request_id]
            for name, value in fields.items():
                setattr(state, name, value)
            state.last = state.state in ENDED
            self._changed.notify_all()

    def commit(self, number: int, version: int) -> None:
        """Let the request that came in as the ``number``-th become a version."""
        logged = self.logged[number]
        self.versions.append(
            pb.Version(
                store=logged.header.store,
                project=logged.header.project,
                name=logged.header.name,
                version=version,
                type=logged.header.type,
                description=logged.header.description
                if logged.header.HasField("description")
                else None,
                metadata=logged.header.metadata,
                digest="sha256:" + "d" * 64,
                manifest="sha256:" + "e" * 64,
                entries=len(logged.entries),
                aliases=[*logged.header.aliases, "latest"],
                request_id=logged.header.request_id,
                run=logged.header.run,
                created="2026-11-23T14:00:00.123Z",
            )
        )
        self.tell(logged.header.request_id, state="done", version=version)

    def refuse(self, call: str, name: str, message: str = "refused", times: int = 1) -> None:
        """Let the next calls fail with an error class of ours."""
        self.refusals[call] = [Refusal(name, message)] * times

    # ── the calls ──────────────────────────────────────────────────────────────────────────────
    def hello(self, request: pb.HelloRequest) -> pb.HelloReply:
        del request
        return pb.HelloReply(
            protocol=PROTOCOL, version=VERSION, pid=os.getpid(), home=str(self.home), home_id="h"
        )

    def log(self, messages: Iterator[pb.LogMessage]) -> pb.LogReply:
        header, entries, batches, ended = pb.LogHeader(), list[pb.Entry](), 0, False
        removed, lookups = list[str](), list[pb.Lookup]()
        try:
            for message in messages:
                match message.WhichOneof("part"):
                    case "whole":
                        header, entries = message.whole.header, [*message.whole.entries.entries]
                        batches = bool(entries)
                        removed = [*message.whole.removed.paths]
                        lookups = [*message.whole.lookups.lookups]
                        assert message.whole.end.entries == len(entries)
                        assert message.whole.end.removed == len(removed)
                        ended = True
                    case "header":
                        header = message.header
                    case "entries":
                        entries += message.entries.entries
                        batches += 1
                    case "lookups":
                        lookups += message.lookups.lookups
                    case "removed":
                        removed += message.removed.paths
                    case "end":
                        assert message.end.entries == len(entries)
                        assert message.end.removed == len(removed)
                        ended = True
        except grpc.RpcError:
            pass
        if not ended:
            self.cut += 1
            raise Refusal("ProtocolError", "cut")
        with self._changed:
            self.removed[header.request_id] = removed
            self.lookups[header.request_id] = lookups
            self._take(Logged(header, entries, batches))
        return pb.LogReply(
            request_id=header.request_id, place=0 if header.offline else len(self.logged)
        )

    def note_run(self, request: pb.NoteRunRequest) -> pb.NoteRunReply:
        self.noted.append(request)
        return pb.NoteRunReply(recorded=True)

    def list_runs(self, request: pb.ListRunsRequest) -> Iterator[pb.RunState]:
        self.asked_runs.append(request)
        for state in self.runs:
            if state.run.id in (request.ids or [state.run.id]):
                yield state

    def trace_lineage(self, request: pb.TraceLineageRequest) -> pb.Lineage:
        self.traced.append(request)
        return self.lineage

    def link(self, request: pb.LinkRequest) -> pb.LinkReply:
        self.linked.append(request)
        return pb.LinkReply()

    def wait(
        self, request: pb.WaitRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.RequestState]:
        self.waits.append(request)
        told: dict[str, bytes] = {}
        # Who has stopped listening must not keep a thread: there are few.
        context.add_callback(self._look_again)
        over = (*ENDED, "held") if request.run_ids else ENDED
        while context.is_active() and not self._stopping:
            # Nothing is sent under the lock: gRPC's own thread sends, and waits for it in the callback.
            with self._changed:
                found = [state for state in self._states.values() if _wanted(request, state)]
                news = {
                    state.request_id: now
                    for state in found
                    if told.get(state.request_id) != (now := state.SerializeToString())
                }
                is_over = all(state.state in over for state in found)
                if not news and not is_over:
                    self._changed.wait(request.every_s or None)
            told |= news
            yield from map(pb.RequestState.FromString, news.values())
            if is_over:
                return

    def list_requests(self, request: pb.ListRequestsRequest) -> Iterator[pb.RequestState]:
        for state in list(self._states.values()):
            is_meant = (state.project, state.name) == (request.project, request.name)
            if is_meant and state.state in request.states:
                yield state

    def get_version(self, request: pb.GetVersionRequest) -> pb.Version:
        for version in reversed(self.versions):
            wanted = request.version or "latest"
            names = {f"v{version.version}", *version.aliases}
            if (version.project, version.name) == (request.project, request.name) and (
                wanted in names
            ):
                if request.type not in ("", version.type):
                    raise Refusal("TypeTaken", f"is a {version.type}")
                return version
        raise Refusal("NotFoundError", f"no {request.project}/{request.name}:{request.version}")

    def edit_version(self, request: pb.EditVersionRequest) -> pb.Version:
        self.edits.append(request)
        version = next(each for each in self.versions if each.version == request.version)
        if request.HasField("description"):
            version.ClearField("description")
            if request.description.HasField("text"):
                version.description = request.description.text
        if request.HasField("metadata"):
            version.metadata = request.metadata
        if request.HasField("tags"):
            version.tags[:] = request.tags.tags
        kept = [alias for alias in version.aliases if alias not in request.remove_aliases]
        version.aliases[:] = [*kept, *request.add_aliases]
        version.edited = "2026-11-30T00:00:00.000Z"
        return version

    def delete_version(self, request: pb.DeleteVersionRequest) -> pb.DeleteVersionReply:
        self.deleted.append(request)
        return pb.DeleteVersionReply()

    def list_versions(self, request: pb.ListVersionsRequest) -> Iterator[pb.Version]:
        self.asked_lists.append(request)
        found = [version for version in self.versions if version.name == request.name]
        if not found:
            raise Refusal("NotFoundError", f"no {request.name}")
        if request.HasField("before") and self.knows_pages:
            found = [version for version in found if version.version < request.before]
        limit = request.limit if self.knows_pages else 0
        yield from found[: -limit - 1 : -1] if limit else reversed(found)

    def list_artifacts(self, request: pb.ListArtifactsRequest) -> Iterator[pb.ArtifactName]:
        self.asked_names.append(request)
        names = dict.fromkeys((version.name, version.type) for version in self.versions)
        for name, type_ in sorted(names):
            if request.type in ("", type_) and request.name in ("", name):
                yield self._told(name, type_, request)

    def _told(self, name: str, type_: str, request: pb.ListArtifactsRequest) -> pb.ArtifactName:
        found = [version for version in self.versions if version.name == name]
        told = pb.ArtifactName(project=request.project, name=name, type=type_)
        told.latest = max(version.version for version in found)
        if request.name and self.knows_pages:
            end = request.before if request.HasField("before") else told.latest + 1
            told.versions = sum(version.version < end for version in found)
            told.aliases.extend(alias for version in found for alias in version.aliases)
        return told

    def read_manifest(self, request: pb.ReadManifestRequest) -> Iterator[pb.EntryBatch]:
        del request
        yield pb.EntryBatch(entries=self.manifest)

    def fetch_files(self, request: pb.FetchFilesRequest) -> Iterator[pb.FetchReply]:
        self.asked_places.append(request)
        for reply in self.places or [self._nowhere(request), pb.FetchReply(last=True)]:
            kept = [file for file in reply.files if file.path in (request.paths or [file.path])]
            told = pb.FetchReply()
            told.CopyFrom(reply)
            del told.files[:]
            told.files.extend(kept)
            yield told

    def read_files(self, request: pb.ReadFilesRequest) -> Iterator[pb.FileChunk]:
        self.asked_files.append(request)
        wanted = False
        for chunk in self.chunks:
            if chunk.path:
                wanted = not request.paths or chunk.path in request.paths
            if wanted:
                yield chunk

    def _nowhere(self, request: pb.FetchFilesRequest) -> pb.FetchReply:
        """No entry lies on this machine."""
        paths = [entry.path for entry in self.manifest if not entry.HasField("reference")]
        return pb.FetchReply(files=[pb.FetchedFile(path=path) for path in request.paths or paths])

    # ── inside ─────────────────────────────────────────────────────────────────────────────────
    def _look_again(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _take(self, logged: Logged) -> None:
        header = logged.header
        if header.request_id in self._states:
            return
        self.logged.append(logged)
        folder = self.home / places.SESSIONS / header.session / header.folder
        for entry in logged.entries:
            if entry.HasField("captured"):
                with (folder / entry.captured.file).open("rb") as file:
                    file.seek(entry.captured.offset)
                    self.read[entry.path] = file.read(entry.size)
            elif entry.HasField("data"):
                self.read[entry.path] = entry.data
        self._states[header.request_id] = pb.RequestState(
            request_id=header.request_id,
            project=header.project,
            name=header.name,
            type=header.type,
            store=header.store,
            run_id=header.run.id,
            state="held" if header.offline else "accepted",
            place=len(self.logged),
            version=-1,
        )

    def _handler(self, method: Any) -> grpc.RpcMethodHandler[Any, Any]:
        name = _snake(method.name)
        reads = GetMessageClass(method.input_type).FromString
        writes = GetMessageClass(method.output_type).SerializeToString

        def one(request: Any, context: grpc.ServicerContext) -> Any:
            return self._answer(method.name, lambda: getattr(self, name)(request), context)

        def many(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                self._maybe_refuse(method.name)
                if name == "wait":
                    yield from self.wait(request, context)
                else:
                    yield from getattr(self, name)(request)
            except Refusal as refusal:
                _abort(context, refusal)

        if name == "log_many":
            return grpc.stream_stream_rpc_method_handler(self._log_many, reads, writes)
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(many, reads, writes)
        if method.client_streaming:
            return grpc.stream_unary_rpc_method_handler(one, reads, writes)
        return grpc.unary_unary_rpc_method_handler(one, reads, writes)

    def _log_many(
        self, requests: Iterator[pb.LogWhole], context: grpc.ServicerContext
    ) -> Iterator[pb.LogReply]:
        """Each as ``log``; what refuses the one refuses the other."""
        try:
            for whole in requests:
                self._maybe_refuse("Log")
                yield self.log(iter([pb.LogMessage(whole=whole)]))
        except Refusal as refusal:
            _abort(context, refusal)
        except grpc.RpcError:
            pass  # the client has gone

    def _answer(self, name: str, call: Callable[[], Any], context: grpc.ServicerContext) -> Any:
        try:
            self._maybe_refuse(name)
            return call()
        except Refusal as refusal:
            _abort(context, refusal)

    def _maybe_refuse(self, name: str) -> None:
        if self.refusals.get(name):
            raise self.refusals[name].pop()


def _abort(context: grpc.ServicerContext, refusal: Refusal) -> None:
    if refusal.name == "ConnectionLost":
        context.abort(grpc.StatusCode.UNAVAILABLE, str(refusal))
    context.set_trailing_metadata((("wherry-error", refusal.name),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(refusal))


def _wanted(request: pb.WaitRequest, state: pb.RequestState) -> bool:
    return state.request_id in request.request_ids or (state.run_id in request.run_ids)


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
