"""A store for each acceptance test: a folder, or a bucket on a real SeaweedFS; on moto, fake-gcs-server."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.soak import SOAK
from tests.support.fixtures import BUCKET
from tests.support.machine import Machine
from tests.support.reading import FolderObjects, GcsObjects, Objects, S3Objects
from tests.support.servers import FakeGcs, S3Server

_SEAWEED = pytest.param("seaweed", marks=pytest.mark.xdist_group("seaweed"))
MOTO = pytest.param("moto", marks=pytest.mark.xdist_group("moto"))
#: Where else than in a folder and on SeaweedFS.
FURTHER = [MOTO, "gcs"] if SOAK else []

#: For a test that asks for ``server``: what shows little more on a second one is left to soak.
on_both = pytest.mark.parametrize("server", [_SEAWEED, MOTO], indirect=True)
on_both_in_soak = pytest.mark.parametrize(
    "server", [_SEAWEED, *([MOTO] if SOAK else [])], indirect=True
)


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


@pytest.fixture(params=["folder", "s3", *FURTHER])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A folder, then a place in a bucket of SeaweedFS; in soak one of moto and of fake-gcs-server as well."""
    if request.param == "folder":
        root = tmp_path / "store"
        root.mkdir()
        return Place(f"file://{root}", FolderObjects(root), {})
    if request.param == "gcs":
        return gcs_bucket(request.getfixturevalue("gcs"))
    return bucket(request.getfixturevalue("moto" if request.param == "moto" else "seaweed"))


_PREFIXES = itertools.count()


def bucket(server: S3Server) -> Place:
    """A prefix of its own in the server's bucket: SeaweedFS has room for a dozen buckets only."""
    if BUCKET not in server._buckets:
        server.make_bucket(BUCKET)
    address = server.address(BUCKET, f"runs/{os.getpid()}-{next(_PREFIXES)}")
    objects = S3Objects(address, server.access_key, server.secret_key)
    return Place(address, objects, server.credentials)


def gcs_bucket(server: FakeGcs) -> Place:
    """A prefix in a bucket of its own."""
    name = f"runs-{os.getpid()}-{next(_PREFIXES)}"
    server.make_bucket(name)
    return Place(server.address(name, "p"), GcsObjects(server, name, "p"), {})
