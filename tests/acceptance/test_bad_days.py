"""Outages and deaths: everything arrives, and what was not promised leaves nothing behind."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.acceptance.conftest import bucket
from tests.soak import SOAK
from tests.support.machine import Machine, wait_until
from tests.support.reading import FolderObjects, files, records
from tests.support.servers import Seaweed

BIG = """
import os, wherry
with wherry.init(project="p") as run:
    for i in range(4):
        a = wherry.Artifact("big", type="model", metadata={"i": i})
        with a.new_file("big.bin", mode="wb") as f:
            f.write(os.urandom(40_000_000))
        run.log_artifact(a)
        print("logged", flush=True)
"""


@pytest.mark.soak
def test_an_outage_in_mid_upload_loses_versions(tmp_path: Path) -> None:
    """The S3 server is away while files go up: everything arrives when it is back."""
    with Seaweed(tmp_path / "seaweed") as server:
        place = bucket(server)
        machine = Machine(tmp_path / "machine", place.address, place.env)
        try:
            program = machine.start(BIG, env={"WHERRY_FINISH": "detach"})
            assert program.wait_line() == "logged"
            server.stop()
            program.wait_done()
            time.sleep(20 if SOAK else 4)
            status = machine.wherry("status", "--json")
            assert "StoreUnavailable" in status
            server.start()
            machine.wait_all_done(200)
        finally:
            machine.close()
        found = records(place.objects, "p", "big")
        assert [record["metadata"]["i"] for record in found] == [0, 1, 2, 3]
        for record in found:
            ((_, body),) = files(place.objects, "p", record)
            assert len(body) == 40_000_000


def test_captures_of_a_dead_client_stay(machine: Machine) -> None:
    """A client that is killed between capture and log: what it had not logged is swept; what it had logged
    before, offline, stays in the same session, and arrives after ``wherry sync``.
    """
    program = machine.start(
        """
        import os, time, wherry
        run = wherry.init(project="p", mode="offline")
        a = wherry.Artifact("held", type="model")
        with a.new_file("x.bin", mode="wb") as f:
            f.write(b"held" * 300_000)
        run.log_artifact(a)
        a = wherry.Artifact("never", type="model")
        with a.new_file("big.bin", mode="wb") as f:
            f.write(os.urandom(3_000_000))
        print("captured", flush=True)
        time.sleep(600)
        """
    )
    assert program.wait_line() == "captured"
    sessions = machine.home / "spool" / "sessions"

    def held_bytes() -> int:
        return sum(f.stat().st_size for f in sessions.rglob("*") if f.is_file())

    (session,) = sessions.iterdir()
    assert held_bytes() >= 4_200_000
    program.kill()
    machine.kill_daemon()
    machine.wherry("daemon", "start")  # the start sweeps
    wait_until(lambda: held_bytes() < 3_000_000)
    assert list(sessions.iterdir()) == [session]
    assert held_bytes() == 1_200_000
    machine.wherry("sync")
    machine.wait_all_done()
    objects = FolderObjects(machine.home / "store")
    (record,) = records(objects, "p", "held")
    assert dict(files(objects, "p", record)) == {"x.bin": b"held" * 300_000}
    assert not objects.keys("p/artifacts/never/")
    wait_until(lambda: held_bytes() == 0)
