"""A daemon that says what a test wants: a stock grpcio server on the home's socket.

It keeps requests as messages and changes their states when it is told to, so that what the commands
send and show can be tested without a queue or a store.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import grpc
from google.protobuf.message_factory import GetMessageClass

from wherry.wire import PROTOCOL, VERSION, places
from wherry.wire import wherry_pb2 as pb

_SERVICE = pb.DESCRIPTOR.services_by_name["Daemon"]
ENDED = ("done", "failed", "cancelled")


class Refusal(Exception):
    """What a call answers instead of a message."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


def request(number: int, **fields: Any) -> pb.RequestState:
    """Make a request; its id ends in its number."""
    known: dict[str, Any] = {
        "request_id": f"0193e0c2-7f3a-7000-8000-{number:012d}",
        "project": "cats",
        "name": "model",
        "type": "model",
        "store": "file:///store",
        "run_id": "run1",
        "state": "accepted",
        "place": number,
        "version": -1,
        "entries": 1,
        "size": 4096,
        "accepted": "2026-11-23T14:00:00.000Z",
    }
    return pb.RequestState(**{**known, **fields})


def _copy(state: pb.RequestState) -> pb.RequestState:
    return pb.RequestState.FromString(state.SerializeToString())


def _is_shown(state: pb.RequestState) -> bool:
    return state.state not in ("done", "cancelled") and not state.acknowledged


class FakeDaemon:
    """Serves one home; as a context manager, until the block's end."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.requests: list[pb.RequestState] = []
        self.stopped: list[pb.LaneState] = []
        self.artifacts: list[pb.ArtifactName] = []
        self.uploads: list[pb.StrayUpload] = []
        self.found: list[pb.Version] = []
        self.entries: list[pb.Entry] = []
        self.refusals: dict[str, Refusal] = {}
        self.calls: list[tuple[str, Any]] = []
        self.left_out: list[str] = []
        self.cuts: list[str] = []  # streams that break off after their first answer
        self.busy = False
        self.hang: set[str] = set()  # calls that are answered when the fake ends
        self.status_limit = 1000
        self.spool: pb.SpoolState | None = None
        self.on_shutdown: Callable[[], None] = lambda: None
        self.on_wait: Callable[[], None] = lambda: None  # when the first states have been told
        self._closing = False
        self._changed = threading.Condition()
        self._server = grpc.server(ThreadPoolExecutor(8))
        handlers = {method.name: self._handler(method) for method in _SERVICE.methods}
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE.full_name, handlers),)
        )

    def __enter__(self) -> Self:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.home / places.QUEUE).touch()
        self._server.add_insecure_port(f"unix:{places.socket_path(self.home)}")
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self, grace_s: float = 0) -> None:
        """Close the socket; a second time nothing.

        Args:
            grace_s: how long calls that are under way may take to their answers.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._server.stop(grace_s).wait()

    def change(self, number: int, **fields: Any) -> None:
        """Change a request, and tell those who wait."""
        with self._changed:
            for state in self.requests:
                if state.request_id == request(number).request_id:
                    for name, value in fields.items():
                        setattr(state, name, value)
            self._changed.notify_all()

    def named(self, method: str) -> list[Any]:
        """The messages that came in for a call."""
        return [message for name, message in self.calls if name == method]

    # ── calls ──────────────────────────────────────────────────────────────────────────────────
    def hello(self, _: pb.HelloRequest) -> pb.HelloReply:
        return pb.HelloReply(
            protocol=PROTOCOL,
            version=VERSION,
            pid=os.getpid(),
            home=str(self.home),
            home_id="home1",
            busy=self.busy,
        )

    def status(self, _: pb.StatusRequest) -> pb.StatusReply:
        counts: dict[str, int] = {}
        for state in self.requests:
            counts[state.state] = counts.get(state.state, 0) + 1
        return pb.StatusReply(
            daemon=self.hello(pb.HelloRequest()),
            socket=str(places.socket_path(self.home)),
            counts=counts,
            requests=[each for each in self.requests if _is_shown(each)][: self.status_limit],
            stopped=self.stopped,
            started="2026-11-23T13:00:00.000Z",
            spool=self.spool,
        )

    def shutdown(self, wanted: pb.ShutdownRequest) -> pb.ShutdownReply:
        accepted = not (wanted.if_idle and self.busy)
        if accepted:
            self.on_shutdown()
        return pb.ShutdownReply(accepted=accepted)

    def list_requests(self, wanted: pb.ListRequestsRequest) -> Iterator[pb.RequestState]:
        part, ids = wanted.id_part, [state.request_id for state in self.requests]
        if part:
            meant = [id_ for id_ in ids if id_.startswith(part) or id_.endswith(part)]
            yield from [each for each in self.requests if each.request_id in meant][: wanted.limit]
            return
        fitting = [
            state
            for state in self.requests
            if (state.state in wanted.states if wanted.states else _is_shown(state))
            and wanted.project in ("", state.project)
            and wanted.name in ("", state.name)
        ]
        yield from fitting[: wanted.limit]

    def wait(self, wanted: pb.WaitRequest) -> Iterator[pb.RequestState]:
        told: dict[str, pb.RequestState] = {}
        first = True
        while True:
            with self._changed:
                fresh = [
                    _copy(state)
                    for state in self.requests
                    if state.request_id in wanted.request_ids
                    and told.get(state.request_id) != state
                ]
                told |= {state.request_id: _copy(state) for state in fresh}
                if not fresh:
                    if self._closing or all(state.state in ENDED for state in told.values()):
                        return
                    self._changed.wait()
            for state in fresh:
                state.last = state.state in ENDED
                yield state
            if first:
                first = False
                on_wait, self.on_wait = self.on_wait, lambda: None
                on_wait()

    def select(self, _: pb.SelectRequest) -> pb.CountReply:
        return pb.CountReply(count=2, left_out=self.left_out)

    retry = cancel = acknowledge = select

    def sync(self, wanted: pb.SelectRequest) -> pb.CountReply:
        count = 0
        for state in self.requests:
            if state.state == "held" and state.request_id in wanted.request_ids:
                state.state = "done"
                state.version = count
                count += 1
        return pb.CountReply(count=count, left_out=self.left_out)

    def collect_uploads(self, asked: pb.CollectUploadsRequest) -> Iterator[pb.StrayUpload]:
        for upload in self.uploads:
            found = pb.StrayUpload()
            found.CopyFrom(upload)
            found.removed = asked.remove
            yield found

    def trim_cache(self, asked: pb.TrimCacheRequest) -> pb.TrimCacheReply:
        reply = pb.TrimCacheReply(bytes=3 << 30, files=1_000, quota_bytes=20 << 30)
        if asked.HasField("most_bytes"):
            reply.removed_bytes, reply.removed_files = 1 << 30, 1
        return reply

    def list_artifacts(self, _: pb.ListArtifactsRequest) -> Iterator[pb.ArtifactName]:
        yield from self.artifacts

    def list_versions(self, _: pb.ListVersionsRequest) -> Iterator[pb.Version]:
        yield from self.found

    def get_version(self, _: pb.GetVersionRequest) -> pb.Version:
        return self.found[0]

    def edit_version(self, asked: pb.EditVersionRequest) -> pb.Version:
        found = next(version for version in self.found if version.version == asked.version)
        kept = [alias for alias in found.aliases if alias not in asked.remove_aliases]
        del found.aliases[:]
        found.aliases.extend([*kept, *asked.add_aliases])
        return found

    def read_manifest(self, _: pb.ReadManifestRequest) -> Iterator[pb.EntryBatch]:
        for entry in self.entries:
            yield pb.EntryBatch(entries=[entry])

    def not_played(self, _: object) -> None:
        raise Refusal("NotYet", "the fake does not play this call")

    # ── gRPC ───────────────────────────────────────────────────────────────────────────────────
    def _handler(self, method: Any) -> grpc.RpcMethodHandler:
        snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in method.name).lstrip("_")

        def play(message: Any) -> Any:
            return getattr(self, snake, self.not_played)(message)

        reads = GetMessageClass(method.input_type).FromString
        writes = GetMessageClass(method.output_type).SerializeToString

        def one(message: Any, context: grpc.ServicerContext) -> Any:
            return self._played(method.name, play, message, context)

        def many(message: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            for answer in self._played(method.name, play, message, context):
                yield answer
                if method.name in self.cuts:
                    self.cuts.remove(method.name)
                    context.abort(grpc.StatusCode.UNAVAILABLE, "as a killed daemon")

        if method.client_streaming:
            return grpc.stream_unary_rpc_method_handler(one, reads, writes)
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(many, reads, writes)
        return grpc.unary_unary_rpc_method_handler(one, reads, writes)

    def _played(
        self, name: str, play: Callable[[Any], Any], message: Any, context: grpc.ServicerContext
    ) -> Any:
        with self._changed:
            self.calls.append((name, message))
            self._changed.notify_all()
        try:
            if name in self.hang:
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, timeout=60)
            if name in self.refusals:
                raise self.refusals[name]
            return play(message)
        except Refusal as refusal:
            context.set_trailing_metadata((("wherry-error", refusal.name),))
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(refusal))
