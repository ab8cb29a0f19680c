"""A real daemon in a home of its own, and a stock gRPC client to talk to it.

Owns: starting and ending the process, calls by name, requests with captured files as a client makes
them. Does not own: what a test says about them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from wherry import session as sessions
from wherry.errors import WherryError, from_wire
from wherry.wire import places
from wherry.wire import wherry_pb2 as pb

_SERVICE = pb.DESCRIPTOR.services_by_name["Daemon"]
_READY_S = 20.0
_END_S = 30.0


class DaemonEnded(RuntimeError):
    """The daemon is not there any more; its log's end is in the message."""


class DaemonProcess:
    """One home's daemon.

    Args:
        home: made where it is missing.
        env: more environment, ``WHERRY_FAILPOINT`` say; nothing else of ``WHERRY_…`` is inherited.
        arguments: further ones of ``wherryd``.

    As a context manager it starts, and is killed at the end. ``start`` after ``kill`` or ``terminate``
    goes on in the same home.
    """

    def __init__(
        self, home: Path, env: Mapping[str, str] | None = None, arguments: Sequence[str] = ()
    ) -> None:
        self.home = home
        self.env = dict(env or {})
        self.arguments = list(arguments)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def socket(self) -> Path:
        """Where it answers."""
        return places.socket_path(self.home)

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self, *, wait: bool = True) -> Self:
        """Start it; return when it answers, or at once."""
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if name[:7] != "WHERRY_"}
        with (self.home / "daemon.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "wherryd", "--home", str(self.home), *self.arguments],
                env={**kept, "AWS_EC2_METADATA_DISABLED": "true", **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, timeout_s: float = _READY_S) -> None:
        """Wait until it answers. Raises ``DaemonEnded`` if it has ended."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if self._process is None or self._process.poll() is not None:
                raise DaemonEnded(f"the daemon has ended:\n{self.log()[-3000:]}")
            try:
                with Caller(self.socket) as caller:
                    caller.call("Hello", pb.HelloRequest(), timeout_s=2)
                return
            except (grpc.RpcError, OSError):
                time.sleep(0.02)
        raise DaemonEnded(f"the daemon does not answer:\n{self.log()[-3000:]}")

    def kill(self) -> None:
        """SIGKILL, and wait for its end; nothing if it has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_END_S)

    def terminate(self, timeout_s: float = _END_S) -> int:
        """SIGTERM, and wait for its end; return the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self, timeout_s: float = _END_S) -> int:
        """Wait for its end; return the exit code (-9 after SIGKILL)."""
        assert self._process is not None, "not started"
        return self._process.wait(timeout_s)

    def log(self) -> str:
        """All that it has said."""
        try:
            return (self.home / "daemon.log").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def caller(self) -> Caller:
        """A new connection to it."""
        return Caller(self.socket)

    def call(self, method: str, request: Message, timeout_s: float = 20) -> Any:
        """One call on a connection of its own."""
        with self.caller() as caller:
            return caller.call(method, request, timeout_s=timeout_s)

    def wait_done(self, ids: Iterable[str], timeout_s: float = 30) -> dict[str, pb.RequestState]:
        """Wait until requests have ended; their last states by id."""
        with self.caller() as caller:
            told = caller.stream("Wait", pb.WaitRequest(request_ids=list(ids)), timeout_s=timeout_s)
            return {state.request_id: state for state in told}


class Caller:
    """A stock grpcio client; errors of ours are raised as they were in the daemon."""

    def __init__(self, socket: Path) -> None:
        options = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)]
        self._channel = grpc.insecure_channel(f"unix:{quote(str(socket))}", options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def call(self, method: str, request: Message, timeout_s: float = 20) -> Any:
        """A call with one message each way."""
        path, reads, writes = _method(method)
        try:
            return self._channel.unary_unary(path, writes, reads)(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise _ours(error) from error

    def send(self, method: str, requests: Iterable[Message], timeout_s: float = 60) -> Any:
        """A call with many messages to the daemon."""
        path, reads, writes = _method(method)
        try:
            return self._channel.stream_unary(path, writes, reads)(
                iter(requests), timeout=timeout_s
            )
        except grpc.RpcError as error:
            raise _ours(error) from error

    def exchange(
        self, method: str, requests: Iterable[Message], timeout_s: float | None = 60
    ) -> Iterator[Any]:
        """A call with many messages both ways."""
        path, reads, writes = _method(method)
        try:
            yield from self._channel.stream_stream(path, writes, reads)(
                iter(requests), timeout=timeout_s
            )
        except grpc.RpcError as error:
            raise _ours(error) from error

    def stream(self, method: str, request: Message, timeout_s: float = 60) -> Iterator[Any]:
        """A call with many messages from the daemon."""
        path, reads, writes = _method(method)
        try:
            yield from self._channel.unary_stream(path, writes, reads)(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise _ours(error) from error


class Session:
    """A client process's session in the spool, locked until ``close``."""

    def __init__(self, home: Path) -> None:
        made = sessions._make(str(home))  # the client's own, of which a process has one
        self.id, self.path, self._lock = made.id, Path(made.path), made.lock

    def close(self) -> None:
        """What the end of the process does."""
        os.close(self._lock)

    def artifact(self, name: str = "model", **header: object) -> LoggedArtifact:
        """An artifact whose files go into this session."""
        return LoggedArtifact(self, name, header)


class LoggedArtifact:
    """One request: captured files and the messages that log them."""

    def __init__(self, session: Session, name: str, header: Mapping[str, object]) -> None:
        self.id = str(uuid.uuid4())
        self.folder = session.path / uuid.uuid4().hex[:24]
        self.folder.mkdir()
        given: dict[str, Any] = {
            "type": "model",
            "project": "cats",
            "metadata": b"{}",
            "client": "test",
            **header,
        }
        self.header = pb.LogHeader(
            request_id=self.id, name=name, session=session.id, folder=self.folder.name, **given
        )
        if not self.header.run.id:
            self.header.run.id = "run1"
        self.entries: dict[str, pb.Entry] = {}

    def add(self, path: str, data: bytes) -> Self:
        """Capture bytes in a spool file of their own."""
        file = self.folder / uuid.uuid4().hex[:24]
        file.write_bytes(data)
        self.entries[path] = pb.Entry(
            path=path, size=len(data), captured=pb.Captured(file=file.name, offset=0)
        )
        return self

    def add_packed(self, files: Mapping[str, bytes]) -> Self:
        """Capture many small files back to back in one spool file."""
        file, offset = self.folder / uuid.uuid4().hex[:24], 0
        with file.open("wb") as opened:
            for path, data in files.items():
                opened.write(data)
                captured = pb.Captured(file=file.name, offset=offset)
                self.entries[path] = pb.Entry(path=path, size=len(data), captured=captured)
                offset += len(data)
        return self

    def add_reference(self, path: str, uri: str) -> Self:
        """Add a reference."""
        reference = pb.Reference(uri=uri, checksum=True, max_objects=10_000)
        self.entries[path] = pb.Entry(path=path, reference=reference)
        return self

    def messages(self, batch: int = 500) -> Iterator[pb.LogMessage]:
        """The stream that logs it."""
        yield pb.LogMessage(header=self.header)
        entries = [self.entries[path] for path in sorted(self.entries)]
        for start in range(0, len(entries), batch):
            yield pb.LogMessage(entries=pb.EntryBatch(entries=entries[start : start + batch]))
        yield pb.LogMessage(end=pb.LogEnd(entries=len(entries)))

    def whole(self) -> Iterator[pb.LogMessage]:
        """The same in one message."""
        entries = [self.entries[path] for path in sorted(self.entries)]
        yield pb.LogMessage(
            whole=pb.LogWhole(
                header=self.header,
                entries=pb.EntryBatch(entries=entries),
                end=pb.LogEnd(entries=len(entries)),
            )
        )

    def log(self, caller: Caller) -> pb.LogReply:
        """Log it; the answer is the promise."""
        reply = caller.send("Log", self.messages())
        assert isinstance(reply, pb.LogReply)
        return reply


def read_store(home: Path, project: str, name: str) -> list[dict[str, object]]:
    """The records of an artifact in the home's own store, by number, read without Wherry."""
    folder = home / places.STORE / project / "artifacts" / name / "versions"
    return [json.loads(file.read_bytes()) for file in sorted(folder.glob("v*.json"))]


def _method(name: str) -> tuple[str, Any, Any]:
    method = _SERVICE.methods_by_name[name]
    reads = GetMessageClass(method.output_type).FromString
    return f"/{_SERVICE.full_name}/{name}", reads, _serialize


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _ours(error: grpc.RpcError) -> Exception:
    """The error that the daemon named; a broken connection stays what it is."""
    trailers: dict[str, str] = dict(error.trailing_metadata() or ())  # type: ignore[arg-type]
    if "wherry-error" not in trailers:
        return error
    ours: WherryError = from_wire(trailers["wherry-error"], error.details() or "")
    return ours
