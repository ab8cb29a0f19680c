"""A clock that a test sets, a ledger, stores at scripted servers, and a server that is slow."""

from __future__ import annotations

import asyncio
import itertools
import re
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio

from tests.support.http import Line, Scripted, Seen, answer, error, scripted
from wherryd.model import PartSums, Upload
from wherryd.stores.base import Body
from wherryd.stores.credentials import StoreCredentials
from wherryd.stores.http.transport import Request, Transport
from wherryd.stores.s3.store import S3Store
from wherryd.stores.traffic import Traffic

KEYS = {"AWS_ACCESS_KEY_ID": "AKIAGOOD", "AWS_SECRET_ACCESS_KEY": "hush-hush"}


class TestClock:
    """Time stands still but for ``sleep``, which takes none; chance is ``chance``, always."""

    __test__ = False

    def __init__(self, now: float = 1_800_000_000.0, chance: float = 0.5) -> None:
        self.time = now
        self.chance = chance
        self.slept: list[float] = []
        self._tokens = itertools.count()

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds
        await anyio.lowlevel.checkpoint()

    def random(self) -> float:
        return self.chance

    def token(self) -> str:
        return f"{next(self._tokens):032x}"


class MemoryLedger:
    """A ledger in memory; it has room for ``room`` further parts."""

    def __init__(self, room: int = 3) -> None:
        self.kept: PartSums | None = None
        self.upload: Upload | None = None
        self.room = room

    async def sums(self) -> PartSums | None:
        return self.kept

    async def keep_sums(self, sums: PartSums) -> None:
        self.kept = sums

    async def take(self) -> Upload | None:
        return self.upload

    async def begin(self, name: str, part_bytes: int) -> Upload:
        self.upload = Upload(1, name, part_bytes, {})
        return self.upload

    async def note_part(self, upload: Upload, number: int, etag: str) -> None:
        assert upload is self.upload
        upload.sent[number] = etag

    async def forget(self, upload: Upload) -> None:
        assert upload is self.upload
        self.upload = None

    def take_room(self) -> bool:
        self.room -= 1
        if self.room < 0:
            self.room = 0
            return False
        return True

    def give_room(self) -> None:
        self.room += 1


@asynccontextmanager
async def store_at(
    *script: object, clock: TestClock | None = None, keys: Mapping[str, str] = KEYS
) -> AsyncIterator[tuple[S3Store, Scripted]]:
    """A store whose server says what the script has."""
    credentials = StoreCredentials()
    credentials.hand_over(keys)
    async with scripted(*script) as server:
        address = f"s3://bucket?endpoint_url={server.url}&region=us-east-1"
        store = S3Store(address, credentials, clock or TestClock())
        try:
            yield store, server
        finally:
            await store.aclose()


def keys_of(name: str) -> dict[str, str]:
    """Make the keys of somebody called so."""
    return {"AWS_ACCESS_KEY_ID": name, "AWS_SECRET_ACCESS_KEY": f"secret of {name}"}


def signer(seen: Seen) -> str:
    """Whose keys signed a request."""
    found = re.search("Credential=([^/]+)/", seen.headers["authorization"])
    assert found
    return found[1]


def only(*good: str) -> Line:
    """What a server says that knows these access keys."""

    def said(seen: Seen) -> bytes:
        known = signer(seen) in good
        return answer(200, ETag='"e"') if known else error(403, "InvalidAccessKeyId")

    return said


@asynccontextmanager
async def store_with(credentials: StoreCredentials) -> AsyncIterator[tuple[S3Store, Scripted]]:
    """A store whose sets the test hands over itself."""
    async with scripted() as server:
        store = S3Store(f"s3://bucket?endpoint_url={server.url}", credentials, TestClock())
        try:
            yield store, server
        finally:
            await store.aclose()


def write_profile(file: Path, name: str) -> None:
    """Write the keys of somebody into the profile ``cats``."""
    keys = f"aws_access_key_id = {name}\naws_secret_access_key = secret"
    file.write_text(f"[default]\naws_access_key_id = DEFAULT\n[cats]\n{keys}\n")


class SlowServer:
    """Takes bytes of a request's body only when told to."""

    def __init__(self) -> None:
        self.port = 0
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None
        self._came = anyio.Event()
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        self.reader, self.writer = reader, writer
        self._came.set()

    async def hang_up(self) -> None:
        """Close all connections, before the loop is: what it has left is the next test's fault."""
        for writer in self._writers:
            writer.close()
        for writer in self._writers:
            with suppress(OSError):
                await writer.wait_closed()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def take(self, size: int) -> bytes:
        """Read so many bytes of the body."""
        await self._came.wait()
        assert self.reader
        return await self.reader.readexactly(size)

    def answer(self, said: bytes = answer(200, ETag='"e"')) -> None:
        """Say that all is well, or something else."""
        assert self.writer
        self.writer.write(said)


@asynccontextmanager
async def slow_server() -> AsyncIterator[SlowServer]:
    """A server whose kernel buffers next to nothing."""
    told = SlowServer()
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        server = await asyncio.start_server(told.serve, sock=listening, limit=4096)
        told.port = listening.getsockname()[1]
        try:
            yield told
        finally:
            server.close()
            await told.hang_up()


async def put_once(
    server: SlowServer | Scripted, body: Body, traffic: Traffic | None = None
) -> None:
    """Send a body whose server is known to check it."""
    transport = Transport(traffic or Traffic(TestClock()), "AWS_CA_BUNDLE")
    headers = {"Content-Length": str(len(body) if isinstance(body, bytes) else body.size)}
    try:
        async with transport.send(Request("PUT", f"{server.url}/key", headers, body)) as arrival:
            assert arrival.response.status == 200
    finally:
        await transport.aclose()
