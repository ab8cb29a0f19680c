"""The stores that the suite runs against, alike."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest

from tests.soak import SOAK
from tests.support.fixtures import BUCKET
from tests.support.google import Google
from tests.support.memory import MemoryStore
from tests.support.servers import FakeGcs, Rclone, S3Server
from wherry.wire.address import normalize_store
from wherryd.clock import SystemClock
from wherryd.registry.base import Writer
from wherryd.registry.layout import WRITER
from wherryd.registry.sole import SoleWriter
from wherryd.stores.base import Body, FileBody, ObjectStat, ObjectStore
from wherryd.stores.credentials import StoreCredentials
from wherryd.stores.opening import open_store
from wherryd.stores.retry import Policy, Retry
from wherryd.stores.s3 import S3Store

_PREFIXES = itertools.count()


#: Where ``rclone serve s3`` (1.75) can't do, or not in this suite's time, what a store does.
_NOT_ON_RCLONE = {
    "test_a_replace_is_lost": "an object that is being replaced is missing for a moment: readers ask again",
    "test_a_long_listing_has_a_seam": "to put a thousand objects takes it 8 s",
}


STORES = ["memory", "folder", "s3", "rclone", "gs", "google"]
#: Another S3 server with conditional writes: what else a store does is left to soak.
MOTO = pytest.param("moto", marks=[pytest.mark.xdist_group("moto"), pytest.mark.soak])


@pytest.fixture(params=[*STORES, *([MOTO] if SOAK else [])])
def kind(request: pytest.FixtureRequest) -> str:
    """Which store: "s3" is SeaweedFS, "moto" another with conditions, "rclone" is for a single writer,
    "gs" is an emulator, "google" the tests' own server of what no emulator does.
    """
    if request.param == "rclone" and request.node.originalname in _NOT_ON_RCLONE:
        pytest.skip(_NOT_ON_RCLONE[request.node.originalname])
    return str(request.param)


class _Alone(S3Store):
    """Writes what depends on what is there as a single writer's daemon does, through one ``SoleWriter``."""

    def __init__(self, address: str, credentials: StoreCredentials, shared: _Shared) -> None:
        super().__init__(address, credentials, SystemClock())
        self._sole = shared.sole
        self._shared = shared
        shared.users += 1

    async def put(self, key: str, body: Body) -> None:
        """Again, as the daemon does: of puts into a folder that is not there yet it fails some, with 500."""
        await Retry(SystemClock(), Policy()).run(key, lambda: super(_Alone, self).put(key, body))

    async def put_if_absent(self, key: str, body: bytes) -> str:
        await self._shared.claim()
        return await self._sole.put_if_absent(key, body)

    async def put_if_match(self, key: str, body: bytes, etag: str) -> str:
        await self._shared.claim()
        return await self._sole.put_if_match(key, body, etag)

    async def list(self, prefix: str, start_after: str = "") -> AsyncGenerator[ObjectStat, None]:
        async for stat in super().list(prefix, start_after):
            if stat.key != WRITER:
                yield stat

    async def scan(self, prefix: str) -> AsyncGenerator[ObjectStat, None]:
        async for stat in super().scan(prefix):
            if stat.key != WRITER:
                yield stat

    async def aclose(self) -> None:
        await super().aclose()
        self._shared.users -= 1
        if not self._shared.users:
            await self._shared.raw.aclose()


class _Shared:
    """What one process has of a store, however often a test opens it."""

    def __init__(self, address: str, credentials: StoreCredentials) -> None:
        self.raw = S3Store(address, credentials, SystemClock())
        self.sole = SoleWriter(self.raw, Writer(1, "home", address, "here"), SystemClock())
        self.users = 0
        self._one_claims = anyio.Lock()

    async def claim(self) -> None:
        """Become the one that writes, as the daemon does: once, and again after a new folder's 500."""
        async with self._one_claims:
            await Retry(SystemClock(), Policy()).run(WRITER, self.sole.claim)


@pytest.fixture
def open_again(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Callable[[], ObjectStore]:
    """Open the test's store once more, as another process would; its own to close."""
    if kind == "memory":
        memory = MemoryStore(SystemClock())
        return lambda: memory
    if kind == "folder":
        folder = tmp_path / "store with space"
        folder.mkdir()
        address = normalize_store(str(folder), {})
        return lambda: open_store(address, None, SystemClock())
    if kind == "rclone":
        return _on_rclone(request.getfixturevalue("rclone"))
    if kind in ("gs", "google"):
        address = _google_address(kind, request)
        return lambda: open_store(address, None, SystemClock())
    server: S3Server = request.getfixturevalue("moto" if kind == "moto" else "seaweed")
    address = server.address(BUCKET, f"contract/{os.getpid()}-{next(_PREFIXES)}")
    credentials = StoreCredentials()
    credentials.hand_over(server.credentials)
    return lambda: open_store(address, credentials, SystemClock())


def _on_rclone(server: Rclone) -> Callable[[], ObjectStore]:
    address = server.address(f"contract/{os.getpid()}-{next(_PREFIXES)}")
    credentials = StoreCredentials()
    credentials.hand_over(server.credentials)
    shared = _Shared(address, credentials)
    return lambda: _Alone(address, credentials, shared)


def _google_address(kind: str, request: pytest.FixtureRequest) -> str:
    bucket = f"contract-{os.getpid()}-{next(_PREFIXES)}"
    if kind == "google":
        google: Google = request.getfixturevalue("google")
        return google.address(bucket, "some/prefix")
    gcs: FakeGcs = request.getfixturevalue("gcs")
    gcs.make_bucket(bucket)
    return gcs.address(bucket, "some/prefix")


@pytest.fixture
async def store(open_again: Callable[[], ObjectStore]) -> AsyncIterator[ObjectStore]:
    """An empty store."""
    opened = open_again()
    yield opened
    await opened.aclose()


@pytest.fixture
def file_body(tmp_path: Path) -> Callable[..., FileBody]:
    """Make a file and the body that is its bytes, or a part of them."""
    numbers = itertools.count()

    def make(content: bytes, offset: int = 0, size: int | None = None) -> FileBody:
        path = tmp_path / f"body-{next(numbers)}"
        path.write_bytes(content)
        part = content[offset:][:size]
        digest = hashlib.sha256(part).digest()
        return FileBody(path=str(path), offset=offset, size=len(part), sha256=digest)

    return make
