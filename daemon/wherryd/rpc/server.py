"""The gRPC server on the home's unix socket.

Owns: the socket file: made, found missing and made again, there or where clients look by now, removed.
Does not own: the calls, or where the socket belongs (``wherry.wire.places``).

Seen in grpcio, and met here: a unix socket added after ``start()`` has a file and nobody answers; the
first server's ``stop()`` unlinks the file of a second one. So each server binds a name of its own before
it starts, which then takes the real name by rename: ``stop()`` finds nothing to unlink, and the real name
never belongs to a server that does not answer yet. Whoever connected to an older server goes on there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import anyio.to_thread
import grpc
import grpc.aio
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from wherry.errors import DaemonNotStarted
from wherry.wire.failpoints import failpoint
from wherryd.log import get_logger
from wherryd.rpc.service import SERVICE

MAX_RECEIVE_BYTES = 64 << 20

#: So many bytes of a stream may come in before they are read.
_WINDOW_BYTES = 1 << 20

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
    # Its pings measure the line, and who does not answer one for a minute is cut off: a program that trains.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", _WINDOW_BYTES),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),
)
_BEFORE_NAME = failpoint("rpc.socket.before-rename")

_log = get_logger("rpc")


class Server:
    """Answers on a unix socket.

    Args:
        find_socket: where clients look for the file now; blocks for a moment. Its folder is the user's
            alone (0700), which keeps others out.
        handlers: of the service's calls.
    """

    def __init__(
        self,
        find_socket: Callable[[], Path],
        handlers: grpc.GenericRpcHandler[Message, Message],
    ) -> None:
        self._find_socket = find_socket
        self._handlers = handlers
        self._socket = Path()
        self._servers: list[grpc.aio.Server] = []
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]  # not in the stubs
        self._inode = -1

    @property
    def socket(self) -> Path:
        """Where it answers."""
        return self._socket

    async def bind(self) -> None:
        """Make the socket, answering from its first moment on.

        Raises:
            DaemonNotStarted, OSError: it can't be made there now.
            BadSetting: there is no place for it that is the user's alone.
        """
        socket = await anyio.to_thread.run_sync(self._find_socket)
        temporary = f"{socket}.{len(self._servers)}"
        await anyio.to_thread.run_sync(_remove, temporary)
        server = grpc.aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers((self._handlers,))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        try:
            server.add_insecure_port(f"unix:{quote(temporary)}")
        except RuntimeError as error:  # as grpc has it, whatever the reason
            raise DaemonNotStarted(
                f"The socket {socket} can't be made.",
                hint=f"Look whether the folder {socket.parent} is there and has room.",
            ) from error
        await server.start()
        self._servers.append(server)
        await self._tell_health(health_pb2.HealthCheckResponse.SERVING)
        _BEFORE_NAME()
        self._inode = await anyio.to_thread.run_sync(_take_name, temporary, socket)
        self._socket = socket

    async def bind_if_gone(self) -> None:
        """Make the socket again where its file is gone, or is not ours, or belongs elsewhere by now.

        Raises as ``bind``.
        """
        socket = await anyio.to_thread.run_sync(self._find_socket)
        if await anyio.to_thread.run_sync(_inode_of, socket) != self._inode:
            _log.warning("socket is gone; binding again", socket=str(socket))
            await self.bind()

    async def tell_leaving(self) -> None:
        """Answer health checks with NOT_SERVING."""
        await self._tell_health(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def hide(self) -> None:
        """Remove the socket: who is connected goes on, and nobody else comes."""
        await anyio.to_thread.run_sync(self._remove_ours)

    async def stop(self, grace_s: float) -> None:
        """Remove the socket, and cut off calls that have not ended after ``grace_s``.

        An idle connection takes the whole time: grpc waits for its end as well as for calls.
        """
        await self.hide()
        for server in self._servers:
            await server.stop(grace_s)

    async def _tell_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for service in ("", SERVICE.full_name):
            await self._health.set(service, status)

    def _remove_ours(self) -> None:
        if _inode_of(self._socket) == self._inode:
            _remove(self._socket)


def _take_name(temporary: str, socket: Path) -> int:
    os.chmod(temporary, 0o600)
    os.rename(temporary, socket)
    return _inode_of(socket)


def _inode_of(socket: Path) -> int:
    try:
        return os.lstat(socket).st_ino
    except FileNotFoundError:
        return 0


def _remove(path: str | Path) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
