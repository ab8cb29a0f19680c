"""Machines on which processes are killed, each with a store of its kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.acceptance.conftest import Place
from tests.faults.stage import Stage
from tests.support.fixtures import BUCKET
from tests.support.google import Google, GoogleObjects
from tests.support.reading import FolderObjects, S3Objects
from tests.support.servers import Rclone, S3Server


class Stages:
    """Makes machines, and leaves no process of theirs behind."""

    def __init__(self, root: Path, request: pytest.FixtureRequest) -> None:
        self._root = root
        self._request = request
        self._made: list[Stage] = []

    def make(
        self,
        place: str = "",
        store: str = "home",
        env: Mapping[str, str] | None = None,
        *,
        is_deep: bool = False,
    ) -> Stage:
        """Make a machine.

        Args:
            place: where the first process that comes by is killed; "" for nowhere.
            store: "home" for the home's own folder, "later" for one that is not there yet, "s3", "moto",
                "google", "rclone" for a single writer.
            env: more environment.
            is_deep: the home's path is too long for a socket.
        """
        root = self._root / str(len(self._made))
        if is_deep:
            root /= "deep" * 25
        # Where a socket goes that has no room in the home.
        runtime = self._root / "run"
        runtime.mkdir(mode=0o700, exist_ok=True)
        with_runtime = {"XDG_RUNTIME_DIR": str(runtime), **(env or {})}
        stage = Stage(root, place, self._store(root, store), with_runtime)
        self._made.append(stage)
        return stage

    def make_in(self, store: Place) -> Stage:
        """Make a machine with a store of the test's own."""
        self._made.append(Stage(self._root / str(len(self._made)), "", store))
        return self._made[-1]

    def close(self) -> None:
        """End what was started."""
        for stage in self._made:
            stage.machine.close()

    def _store(self, root: Path, kind: str) -> Place:
        if kind in ("s3", "moto"):
            # SeaweedFS has room for a dozen buckets only.
            name = "moto" if kind == "moto" else "seaweed"
            server: S3Server = self._request.getfixturevalue(name)
            address = server.address(BUCKET, f"faults/{root.parent.name}/{root.name}")
            objects = S3Objects(address, server.access_key, server.secret_key)
            return Place(address, objects, server.credentials)
        if kind == "rclone":
            rclone: Rclone = self._request.getfixturevalue("rclone")
            address = rclone.address(f"faults/{root.parent.name}/{root.name}")
            objects = S3Objects(address, rclone.access_key, rclone.secret_key)
            return Place(address, objects, rclone.credentials)
        if kind == "google":
            google: Google = self._request.getfixturevalue("google")
            bucket = f"faults-{root.parent.name}-{root.name}"
            address = google.address(bucket, "p")
            return Place(address, GoogleObjects(google, bucket, "p"), {})
        folder = root / ("later" if kind == "later" else "home/store")
        return Place(f"file://{folder}", FolderObjects(folder), {})


@pytest.fixture
def stages(home: Path, request: pytest.FixtureRequest) -> Iterator[Stages]:
    """Give what makes machines."""
    made = Stages(home.parent, request)
    yield made
    made.close()


@pytest.fixture
def stage(stages: Stages) -> Stage:
    """Give a machine on which nobody is killed, but by the test."""
    return stages.make()
