"""A store for each acceptance test: a folder, or a bucket on a real SeaweedFS or on moto."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.soak import SOAK
from tests.support.fixtures import BUCKET
from tests.support.machine import Machine
from tests.support.reading import FolderObjects, Objects, S3Objects
from tests.support.servers import S3Server

_SEAWEED = pytest.param("seaweed", marks=pytest.mark.xdist_group("seaweed"))
MOTO = pytest.param("moto", marks=pytest.mark.xdist_group("moto"))
_MOTO_IN_SOAK = [MOTO] if SOAK else []

#: For a test that asks for ``server``: what shows little more on a second one is left to soak.
on_both = pytest.mark.parametrize("server", [_SEAWEED, MOTO], indirect=True)
on_both_in_soak = pytest.mark.parametrize("server", [_SEAWEED, *_MOTO_IN_SOAK], indirect=True)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> S3Server:
    """An S3 server that honours conditions, as the test's mark says."""
    found: S3Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine whose store is the folder in its home."""
    made = Machine(tmp_path / "machine")
    yield made
    made.close()


class Place:
    """Where versions go in a test, and how they are read back without Wherry."""

    def __init__(self, address: str, objects: Objects, env: dict[str, str]) -> None:
        self.address = address
        self.objects = objects
        self.env = env
        self.bucket, _, rest = address.removeprefix("s3://").partition("/")
        self.prefix = rest.partition("?")[0]


@pytest.fixture(params=["folder", "s3", *_MOTO_IN_SOAK])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A folder, then a place in a bucket of SeaweedFS; in soak one of moto as well."""
    if request.param == "folder":
        root = tmp_path / "store"
        root.mkdir()
        return Place(f"file://{root}", FolderObjects(root), {})
    return bucket(request.getfixturevalue("moto" if request.param == "moto" else "seaweed"))


_PREFIXES = itertools.count()


def bucket(server: S3Server) -> Place:
    """A prefix of its own in the server's bucket: SeaweedFS has room for a dozen buckets only."""
    if BUCKET not in server._buckets:
        server.make_bucket(BUCKET)
    address = server.address(BUCKET, f"runs/{os.getpid()}-{next(_PREFIXES)}")
    objects = S3Objects(address, server.access_key, server.secret_key)
    return Place(address, objects, server.credentials)
