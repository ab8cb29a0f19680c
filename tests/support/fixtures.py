"""Servers that suites share. ``tests/conftest.py`` imports them, and nobody else: each import would be
a fixture of its own, with a server of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from tests.support.google import Google
from tests.support.servers import FakeGcs, Moto, Rclone, Seaweed

BUCKET = "wherry-tests"


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """A SeaweedFS for the whole session, with the bucket ``BUCKET``; use a prefix of your own in it."""
    yield from _with_bucket(Seaweed, tmp_path_factory.mktemp("seaweed"))


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    """A moto for the whole session, with the bucket ``BUCKET``; use a prefix of your own in it."""
    yield from _with_bucket(Moto, tmp_path_factory.mktemp("moto"))


_S3 = TypeVar("_S3", Seaweed, Moto)


def _with_bucket(kind: Callable[[Path], _S3], folder: Path) -> Iterator[_S3]:
    with ExitStack() as stack:
        with _belongs_to_no_test(folder):
            server = stack.enter_context(kind(folder))
        server.make_bucket(BUCKET)
        yield server


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rclone]:
    """An ``rclone serve s3`` for the whole session; use a prefix of your own."""
    folder = tmp_path_factory.mktemp("rclone")
    with ExitStack() as stack:
        with _belongs_to_no_test(folder):
            server = stack.enter_context(Rclone(folder / "server"))
        yield server


@pytest.fixture(scope="session")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeGcs]:
    """A fake-gcs-server for the whole session; use a bucket of your own."""
    with ExitStack() as stack:
        with _belongs_to_no_test(tmp_path_factory.mktemp("gcs")):
            server = stack.enter_context(FakeGcs())
        yield server


@pytest.fixture(scope="session")
def google() -> Iterator[Google]:
    """A server of Google's API for the whole session; use a bucket of your own, and no faults."""
    with Google() as server:
        yield server


@contextmanager
def _belongs_to_no_test(folder: Path) -> Iterator[None]:
    """What is started here is not ended with the test that asks for it first: see ``home``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        patch.delenv("WHERRY_HOME", raising=False)
        yield
