"""A server that says what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import inspect
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import EllipsisType

#: Of 127.0.0.1 and localhost, signed by itself, with its key, for a hundred years; of no use but to tests.
CERTIFICATE = Path(__file__).with_name("localhost.pem")

Line = bytes | EllipsisType | None | Callable[["Seen"], object]
"""What a request is answered with: see ``Scripted``."""


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    target: str  # as it stood in the request line
    headers: dict[str, str]  # names in lower case
    body: bytes
    reused: bool  # the connection had carried another before


class Cut(bytes):
    """Said, and then the connection is closed."""


class Early(Cut):
    """Said when the head is there, before the body is read; at the script's begin only."""


@dataclass
class Scripted:
    """Answers request after request from ``script``.

    A line of it is the bytes to answer with, ``None`` to close the connection without an answer, ``...`` to
    say nothing, or a function of the request, async or not, that gives one of these. Without a line left,
    requests are answered with ``otherwise``.
    """

    script: list[Line] = field(default_factory=list)
    otherwise: Line = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 0\r\n\r\n'
    seen: list[Seen] = field(default_factory=list)
    scheme: str = "http"
    port: int = 0
    server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    async def close(self) -> None:
        """Take no more connections."""
        if self.server:
            self.server.close()
            self.server = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        reused = False
        try:
            is_early = bool(self.script) and isinstance(self.script[0], Early)
            while (request := await _read_request(reader, reused, not is_early)) is not None:
                self.seen.append(request)
                line = self.script.pop(0) if self.script else self.otherwise
                said = line(request) if callable(line) else line
                if inspect.isawaitable(said):
                    said = await said
                if said is ...:
                    await reader.read()
                    return
                if said is None:
                    return
                assert isinstance(said, bytes)
                writer.write(said)
                if isinstance(said, Cut):
                    return
                reused = True
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    """Make a whole answer. Underscores in header names stand for dashes."""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def error(status: int, code: str, more: str = "", **headers: str) -> bytes:
    """Make an S3 error."""
    body = f"<Error><Code>{code}</Code><Message>said so</Message>{more}</Error>"
    return answer(status, body.encode(), **headers)


@asynccontextmanager
async def scripted(*script: Line, scheme: str = "http") -> AsyncIterator[Scripted]:
    """Run a scripted server on a free port; as ``https``, with ``CERTIFICATE``."""
    told, tls = Scripted(list(script), scheme=scheme), None
    if scheme == "https":
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(CERTIFICATE)
    told.server = await asyncio.start_server(told.serve, "127.0.0.1", 0, ssl=tls)
    told.port = told.server.sockets[0].getsockname()[1]
    try:
        yield told
    finally:
        await told.close()


async def _read_request(reader: asyncio.StreamReader, reused: bool, with_body: bool) -> Seen | None:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    size = int(headers.get("content-length", 0)) if with_body else 0
    body = await reader.readexactly(size)
    return Seen(method, target, headers, body, reused)
