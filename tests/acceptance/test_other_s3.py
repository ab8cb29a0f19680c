"""An S3 server without conditional writes: refused with the reason, or written by one home alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.acceptance.test_store_trouble import reasons, shown
from tests.support.machine import Machine, machine, wait_until
from tests.support.reading import S3Objects, files, records
from tests.support.servers import Rclone

_PREFIXES = count()
_DETACHED = {"WHERRY_FINISH": "detach"}

LOG = """
import sys, wherry
run = wherry.init(project="p")
who, versions = int(sys.argv[1]), int(sys.argv[2])
for n in range(versions):
    for name in ("shared", f"own-{who}"):
        a = wherry.Artifact(name, type="model", metadata={"who": who, "n": n})
        for part in range(3):
            with a.new_file(f"part {part}") as f: f.write(f"{who} {n} {part}")
        run.log_artifact(a, aliases=["best"])
"""

READ = """
import wherry
run = wherry.init(project="p")
found = run.use_artifact("own-0:best")
found.verify(found.download(root="out"))
print(found.version, open("out/part 2").read())
print(len(wherry.Api().artifacts("model", "p/own-0")))
"""


@pytest.fixture
def prefix() -> str:
    """A prefix of the test's own."""
    return f"runs/{os.getpid()}-{next(_PREFIXES)}"


@pytest.fixture
def on(tmp_path: Path, rclone: Rclone, prefix: str) -> Iterator[Machine]:
    """A machine whose user promises that it writes alone."""
    env = {**rclone.credentials, **_DETACHED}
    with machine(tmp_path / "one", rclone.address(prefix), env) as made:
        yield made


def test_a_kill_costs_a_single_writer_its_order(
    on: Machine, rclone: Rclone, prefix: str, tmp_path: Path
) -> None:
    """Programs that log at once, while their daemon is killed: each version is there once, each program's
    in its order, with its bytes; the aliases are at the last. Who only reads needs no promise.
    """
    objects = S3Objects(on.store, rclone.access_key, rclone.secret_key)
    programs = [on.start(LOG, str(who), "5") for who in range(2)]
    for seen in (0, 5):
        wait_until(lambda seen=seen: len(objects.keys("p/artifacts/shared/versions/")) > seen, 60)
        assert on.kill_daemon()
        wait_until(lambda: on.daemon_pid() is None)
        on.wherry("status")  # starts it again
    for program in programs:
        program.wait_done()
    on.wait_all_done()
    shared = [record["metadata"] for record in records(objects, "p", "shared")]
    for who in range(2):
        own = records(objects, "p", f"own-{who}")
        assert [record["metadata"]["n"] for record in own] == [*range(5)]
        assert [each["n"] for each in shared if each["who"] == who] == [*range(5)]
        for n, record in enumerate(own):
            held = {f"part {part}": f"{who} {n} {part}".encode() for part in range(3)}
            assert dict(files(objects, "p", record)) == held
        best = json.loads(objects.get(f"p/artifacts/own-{who}/aliases/best.json"))
        assert best["version"] == 4
    unpromised = rclone.address(prefix, alone=False)
    with machine(tmp_path / "reader", unpromised, rclone.credentials) as reader:
        assert reader.run(READ).splitlines() == ["v4 0 4 2", "5"]
        assert "own-0" in reader.wherry("ls", "--project", "p")


def test_a_store_without_conditions_is_written_unasked(
    tmp_path: Path, rclone: Rclone, prefix: str
) -> None:
    """Without the promise the store is refused, with why and what else there is, and left as it was."""
    address = rclone.address(prefix, alone=False)
    with machine(tmp_path / "one", address, {**rclone.credentials, **_DETACHED}) as on:
        on.run(LOG, "0", "1")

        def refusals() -> list[str]:
            return [each["reason"] for each in shown(on) if each["error"] == "StoreUnfit"]

        wait_until(refusals, 60)
        assert "of 16 racing creates of a key win" in refusals()[0]
        assert "add commit=single-writer to the address" in refusals()[0]
    # On the disk: it lists keys that it has no more. It is asked again and again.
    left = [path.name for path in (rclone.folder / "data" / rclone.bucket / prefix).rglob("*")]
    assert [name for name in left if "wherry-probe-" not in name and ".rclone" not in name] == []


def test_two_homes_write_where_one_may(
    on: Machine, rclone: Rclone, prefix: str, tmp_path: Path
) -> None:
    """A second home is refused, in words that say who writes and how it may take that home's place; when
    that is done it goes on by itself.
    """
    on.run(LOG, "0", "1")
    on.wait_all_done()
    objects = S3Objects(on.store, rclone.access_key, rclone.secret_key)
    with machine(
        tmp_path / "two", on.store, on.env | {"WHERRY_HOME": str(tmp_path / "two/home")}
    ) as two:
        two.run(LOG, "1", "1")
        wait_until(lambda: reasons(two, two.store) == {"StoreTaken"}, 60)
        assert str(on.home) in next(each["reason"] for each in shown(two) if each["reason"])
        assert len(records(objects, "p", "shared")) == 1
        objects.remove("wherry-writer.json")
        two.wherry("retry", "--all")
        two.wait_all_done()
        assert [each["metadata"]["who"] for each in records(objects, "p", "shared")] == [0, 1]
