"""A network connection that can be held: what is sent goes nowhere, and nobody hears of it."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
_CHUNK_BYTES = 1 << 16


class Gate:
    """Listens on ``port`` and passes all on to another port, both ways, unless it is closed.

    Args:
        to: the port behind the gate.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self._open = threading.Event()
        self._open.set()
        self._passed_bytes = 0
        self._most_bytes: int | None = None
        #: Set while somebody waits at the closed gate.
        self.awaited = threading.Event()
        self._ends: list[socket.socket] = []
        self._listening = socket.create_server((HOST, 0))
        self.port: int = self._listening.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.open()
        for end in (self._listening, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        """Pass nothing on from now on."""
        self.awaited.clear()
        self._open.clear()

    def close_after(self, more_bytes: int) -> None:
        """Pass nothing on once about so many more bytes have been sent to the other port."""
        self._most_bytes = self._passed_bytes + more_bytes

    def open(self) -> None:
        """Pass on what waits, and all that comes."""
        self._most_bytes = None
        self._open.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                try:
                    far = socket.create_connection((HOST, self._to))
                except ConnectionRefusedError:  # nobody is behind the gate
                    near.close()
                    continue
                self._ends += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK_BYTES):
                if not self._open.is_set():
                    self.awaited.set()
                    self._open.wait()
                target.sendall(data)
                if target.getpeername()[1] == self._to:
                    self._count(len(data))
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def _count(self, size: int) -> None:
        self._passed_bytes += size
        if self._most_bytes is not None and self._passed_bytes >= self._most_bytes:
            self.close()
