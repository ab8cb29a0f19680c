"""Fixtures that several suites share; a suite's conftest imports those that it wants."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.servers import FakeGcs, Seaweed

BUCKET = "wherry-tests"


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """A SeaweedFS for the whole session, with the bucket ``BUCKET``; use a prefix of your own in it."""
    with Seaweed(tmp_path_factory.mktemp("seaweed")) as server:
        server.make_bucket(BUCKET)
        yield server


@pytest.fixture(scope="session")
def gcs() -> Iterator[FakeGcs]:
    """A fake-gcs-server for the whole session; use a bucket of your own."""
    with FakeGcs() as server:
        yield server
