"""A home whose disk is full, and a store elsewhere that has room."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.disks import small_disk
from tests.support.machine import Machine, wait_until
from wherry.wire import places
from wherryd.queue.reserve import SIZE_BYTES, Reserve

_DISK_BYTES = 48 << 20
_FILE_BYTES = 1 << 20
DISK_PLACES = ("reserve.file.given-up",)

#: Logs until the disk is full, by held requests or by a store that is not there yet.
FILL = """
import os, sys, wherry
os.environ["WHERRY_FINISH"] = "detach"
run = wherry.init(project="p")
for n in range(1000):
    try:
        artifact = wherry.Artifact("model", type="t", metadata={"n": n})
        with artifact.new_file("x", mode="xb") as file:
            file.write(os.urandom(int(sys.argv[1])))
        run.log_artifact(artifact)
    except wherry.errors.SpoolFull:
        break
else:
    sys.exit("the disk is never full")
del artifact
os.closerange(3, 50)
print(n, flush=True)
os._exit(0)
"""

LATER = """
import wherry
run = wherry.init(project="p")
artifact = wherry.Artifact("later", type="t")
with artifact.new_file("x") as file:
    file.write("1")
print(run.log_artifact(artifact).wait().version)
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine whose home is a small disk, and whose store's folder is not there yet."""
    machine = Machine(tmp_path / "machine", store=f"file://{tmp_path}/far/store")
    machine.home.mkdir()
    with small_disk(machine.home, _DISK_BYTES) as disk:
        machine.live_on(disk)
        (machine.home / places.CONFIG).write_text("spool_quota_bytes = '1 TB'\n")
        yield machine
        machine.close()


def _fill_up(machine: Machine) -> None:
    """Not even a row of the queue finds room any more."""
    filler = machine.home / "filler"
    for chunk in (1 << 20, 1 << 12, 1):
        try:
            with filler.open("ab", buffering=0) as file:
                while file.write(bytes(chunk)) == chunk:
                    pass
        except OSError:
            pass


def _versions(machine: Machine) -> list[int]:
    folder = machine.root.parent / "far/store/p/artifacts/model/versions"
    return sorted(json.loads(file.read_bytes())["metadata"]["n"] for file in folder.glob("v*"))


@pytest.mark.parametrize("killed", ["", "while full", *DISK_PLACES])
def test_a_full_disk_stops_what_would_free_it(machine: Machine, killed: str) -> None:
    """Logging raises SpoolFull and is not half-queued; what was logged drains, and logging goes on."""
    was_there = machine.root / "was-there"
    machine.env |= {"WHERRY_FAILPOINT": killed, "WHERRY_FAILPOINT_ONCE": str(was_there)}
    machine.wherry("daemon", "start")
    assert (machine.home / places.RESERVE).stat().st_size == SIZE_BYTES
    logged = int(machine.run(FILL, str(_FILE_BYTES)).strip())
    assert logged > 10
    _fill_up(machine)
    if killed == "while full":
        machine.kill_daemon()
    (machine.root.parent / "far").mkdir()
    (machine.root.parent / "far/store").mkdir()
    # which starts a daemon where there is work and none, and may see it killed
    machine.wherry("status", check=killed not in DISK_PLACES)
    if killed in DISK_PLACES:
        wait_until(was_there.exists, 90)
        filler = machine.home / "filler"
        os.truncate(filler, max(0, filler.stat().st_size - SIZE_BYTES))  # may have taken that room
        machine.wherry("status")  # likewise
    wait_until(lambda: len(_versions(machine)) == logged, 90)
    assert _versions(machine) == list(range(logged))
    assert machine.run(LATER).strip() == "v0"
    (machine.home / "filler").unlink()
    wait_until(lambda: (machine.home / places.RESERVE).exists())  # noqa: PLW0108


def test_the_reserve_takes_the_last_room(tmp_path: Path) -> None:
    """The reserve is made where there is room for more, made whole after a kill, and given up once."""
    path = tmp_path / "reserve"
    path.write_bytes(b"half")
    reserve = Reserve(path)
    reserve.renew()
    assert path.stat().st_size == SIZE_BYTES
    assert reserve.give_up()
    assert not reserve.give_up()
