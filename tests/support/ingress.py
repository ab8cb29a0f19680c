"""What stands before servers in a cluster: it passes requests on, and answers by itself without a backend."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

from tests.support.servers import HOST

_CHUNK_BYTES = 1 << 16
_NOBODY = (
    b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 19\r\n"
    b"Connection: close\r\n\r\n404 page not found\n"
)


class Ingress:
    """Passes connections on to a port; while it has no backend, answers 404 in its stead.

    Args:
        to: the backend's port.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self._has_backend = True
        self._ends: list[socket.socket] = []
        self._listening = socket.create_server((HOST, 0))
        self.port: int = self._listening.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        _end(self._listening)
        self.lose_backend()

    def lose_backend(self) -> None:
        """Cut all connections, and answer for the backend from now on."""
        self._has_backend = False
        ends, self._ends = self._ends, []
        for end in ends:
            _end(end)

    def find_backend(self) -> None:
        """Pass connections on again."""
        self._has_backend = True

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                self._ends.append(near)
                if not self._has_backend:
                    threading.Thread(target=_refuse, args=(near,), daemon=True).start()
                    continue
                far = socket.create_connection((HOST, self._to))
                self._ends.append(far)
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=_pass, args=(source, target), daemon=True).start()


def _refuse(near: socket.socket) -> None:
    with contextlib.suppress(OSError):
        near.recv(_CHUNK_BYTES)
        near.sendall(_NOBODY)
        near.shutdown(socket.SHUT_WR)
        while near.recv(_CHUNK_BYTES):
            pass


def _pass(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK_BYTES):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def _end(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
