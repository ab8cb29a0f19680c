"""The stores that the suite runs against, alike."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.support.fixtures import BUCKET
from tests.support.google import Google
from tests.support.memory import MemoryStore
from tests.support.servers import FakeGcs, Seaweed
from wherry.wire.address import normalize_store
from wherryd.clock import SystemClock
from wherryd.stores.base import FileBody, ObjectStore
from wherryd.stores.credentials import StoreCredentials
from wherryd.stores.opening import open_store

_PREFIXES = itertools.count()


@pytest.fixture(params=["memory", "folder", "s3", "gs", "google"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which store: "gs" is an emulator, "google" the tests' own server of what no emulator does."""
    return str(request.param)


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
    if kind in ("gs", "google"):
        address = _google_address(kind, request)
        return lambda: open_store(address, None, SystemClock())
    server: Seaweed = request.getfixturevalue("seaweed")
    address = server.address(BUCKET, f"contract/{os.getpid()}-{next(_PREFIXES)}")
    credentials = StoreCredentials()
    credentials.hand_over(server.credentials)
    return lambda: open_store(address, credentials, SystemClock())


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
