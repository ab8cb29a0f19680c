"""A stock grpcio server that speaks ``wherry.v1.Daemon``, for the client's transport to be tried on.

``server.py SOCKET [option=value …]`` prints "ready" and serves until SIGTERM, which it takes as a gRPC
server should: GOAWAY, then ``grace`` seconds (two by default) for calls under way. ``server.py --home
HOME`` is the same as a daemon: with an instance lock, at the home's socket, options from
``HOME/options``, its pid added to ``HOME/pids``. Options beside ``grace``: ``protocol``, ``draining``,
``busy``, ``exit`` (a text to end with at once).

What a call does is said in its request:

* Hello answers with the server's pid; Status with what the Hellos brought.
* Log counts the entries' bytes. By the header's ``name``: "refuse" is refused at once; "slow" never
  answered; "die" ends the process by SIGKILL, and "leave" makes it refuse and leave, once; "die:<times>"
  so often.
* LogMany answers each message as Log answers a stream.
* GetVersion echoes ``name``; with ``version`` "error:<class>", "code:<gRPC code>", "raise:" it fails, with
  "slow:<seconds>" it takes that long.
* Wait tells as many states as ``every_s`` says; with the request id "hang" it is silent after them.
* ReadFiles sends one chunk of as many bytes as each path says; at the path "die" the process ends.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from wherry.wire import PROTOCOL, places
from wherry.wire import wherry_pb2 as pb

OPTIONS: dict[str, str] = {}
HELLOS: list[pb.HelloRequest] = []


async def hello(request: pb.HelloRequest, context: Any) -> pb.HelloReply:
    """Say who this is."""
    HELLOS.append(request)
    return pb.HelloReply(
        protocol=int(OPTIONS.get("protocol", PROTOCOL)),
        version="test",
        pid=os.getpid(),
        draining=OPTIONS.get("draining") == "1",
        busy=OPTIONS.get("busy") == "1",
    )


async def status(request: pb.StatusRequest, context: Any) -> pb.StatusReply:
    """Tell what the Hellos brought."""
    reply = pb.StatusReply(daemon=pb.HelloReply(pid=os.getpid()))
    for number, said in enumerate(HELLOS):
        reply.counts[f"hello-{number}"] = said.pid
        for credentials in said.credentials:
            reply.stopped.append(pb.LaneState(store=credentials.store, name=str(said.pid)))
    return reply


async def shutdown(request: pb.ShutdownRequest, context: Any) -> pb.ShutdownReply:
    """Leave, unless busy and asked to leave when idle."""
    accepted = not (request.if_idle and OPTIONS.get("busy") == "1")
    if accepted:
        os.kill(os.getpid(), signal.SIGTERM)
    return pb.ShutdownReply(accepted=accepted)


async def log(messages: AsyncIterator[pb.LogMessage], context: Any) -> pb.LogReply:
    """Count, or misbehave."""
    size = 0
    request_id = ""
    async for message in messages:
        if message.HasField("header"):
            request_id = message.header.request_id
            await _misbehave(message.header.name, context)
        size += sum(len(entry.path) for entry in message.entries.entries)
    return pb.LogReply(request_id=request_id, place=size)


async def log_many(
    messages: AsyncIterator[pb.LogWhole], context: Any
) -> AsyncIterator[pb.LogReply]:
    """Count each, or misbehave."""
    async for whole in messages:
        await _misbehave(whole.header.name, context)
        size = sum(len(entry.path) for entry in whole.entries.entries)
        yield pb.LogReply(request_id=whole.header.request_id, place=size)


async def _misbehave(said: str, context: Any) -> None:
    name, _, times = said.partition(":")
    if name == "refuse":
        await _fail(
            context, "TypeTaken", "The name belongs to another type – é.\n  Choose another."
        )
    elif name == "slow":
        await asyncio.sleep(3600)
    elif name == "die" and _at_first(int(times or 1)):
        os.kill(os.getpid(), signal.SIGKILL)
    elif name == "leave" and _at_first(1):
        OPTIONS["draining"] = "1"
        asyncio.get_running_loop().call_later(0.2, os.kill, os.getpid(), signal.SIGTERM)
        await _fail(context, "DaemonLeaving", "leaving", grpc.StatusCode.UNAVAILABLE)


def _at_first(times: int) -> bool:
    """Whether this was asked no more than so often, of whichever server at this socket."""
    with open(OPTIONS["socket"] + ".asked", "ab") as asked:
        asked.write(b".")
        asked.flush()
        return asked.tell() <= times


async def _fail(
    context: Any, name: str, text: str, code: grpc.StatusCode = grpc.StatusCode.FAILED_PRECONDITION
) -> None:
    context.set_trailing_metadata((("wherry-error", name),))
    await context.abort(code, text)


async def get_version(request: pb.GetVersionRequest, context: Any) -> pb.Version:
    """Echo, fail or be slow."""
    kind, _, name = request.version.partition(":")
    if kind == "error":
        await _fail(context, name, request.name)
    if kind == "code":
        await context.abort(grpc.StatusCode[name], request.name)
    if kind == "raise":
        raise RuntimeError(request.name)
    if kind == "slow":
        await asyncio.sleep(float(name))
    return pb.Version(name=request.name, type=request.type, version=os.getpid())


async def wait(request: pb.WaitRequest, context: Any) -> AsyncIterator[pb.RequestState]:
    """Tell some states."""
    for number in range(int(request.every_s)):
        yield pb.RequestState(request_id=str(number), place=os.getpid())
    if "hang" in request.request_ids:
        await asyncio.sleep(3600)


async def read_files(request: pb.ReadFilesRequest, context: Any) -> AsyncIterator[pb.FileChunk]:
    """Send zeros."""
    for path in request.paths:
        if path == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        yield pb.FileChunk(path=path, data=bytes(int(path)))


def handlers() -> grpc.GenericRpcHandler[Any, Any]:
    """The service, without generated stubs."""

    def of(kind: Any, behaviour: Any, request: Any) -> Any:
        return kind(
            behaviour,
            request_deserializer=request.FromString,
            response_serializer=lambda reply: reply.SerializeToString(),
        )

    return grpc.method_handlers_generic_handler(
        "wherry.v1.Daemon",
        {
            "Hello": of(grpc.unary_unary_rpc_method_handler, hello, pb.HelloRequest),
            "Status": of(grpc.unary_unary_rpc_method_handler, status, pb.StatusRequest),
            "Shutdown": of(grpc.unary_unary_rpc_method_handler, shutdown, pb.ShutdownRequest),
            "Log": of(grpc.stream_unary_rpc_method_handler, log, pb.LogMessage),
            "LogMany": of(grpc.stream_stream_rpc_method_handler, log_many, pb.LogWhole),
            "GetVersion": of(
                grpc.unary_unary_rpc_method_handler, get_version, pb.GetVersionRequest
            ),
            "Wait": of(grpc.unary_stream_rpc_method_handler, wait, pb.WaitRequest),
            "ReadFiles": of(grpc.unary_stream_rpc_method_handler, read_files, pb.ReadFilesRequest),
        },
    )


async def serve(socket: str) -> None:
    """Serve until SIGTERM."""
    OPTIONS["socket"] = socket
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = grpc.aio.server(
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    )
    server.add_generic_rpc_handlers((handlers(),))
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    print("ready", flush=True)
    await stop.wait()
    await server.stop(float(OPTIONS.get("grace", "2")))


def take_options(items: list[str]) -> None:
    """Keep ``name=value``."""
    OPTIONS.update({item.partition("=")[0]: item.partition("=")[2] for item in items})


def be_daemon(home: Path) -> None:
    """Hold the home, then serve."""
    if (home / "options").exists():
        take_options((home / "options").read_text().split())
    if "exit" in OPTIONS:
        sys.exit(f"cannot start: {OPTIONS['exit']}")
    with open(home / places.INSTANCE_LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with open(home / "pids", "a") as pids:
            pids.write(f"{os.getpid()}\n")
        socket = places.socket_path(home)
        socket.unlink(missing_ok=True)
        asyncio.run(serve(str(socket)))


if __name__ == "__main__":
    if sys.argv[1] == "--home":
        be_daemon(Path(sys.argv[2]))
    else:
        take_options(sys.argv[2:])
        asyncio.run(serve(sys.argv[1]))
