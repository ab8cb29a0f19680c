"""Outages and deaths: everything arrives, and what was not promised leaves nothing behind."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.acceptance.conftest import bucket
from tests.faults.gate import Gate
from tests.soak import SOAK
from tests.support.machine import Machine, machine, wait_until
from tests.support.reading import FolderObjects, files, records
from tests.support.servers import Seaweed

#: In parts of 16 MiB, four of them at once.
_BIG_BYTES = 120_000_000
#: Of these the server has answered for one at least, when so many bytes have been sent.
_FIVE_PARTS = 70_000_000
#: So long is the server away, at least.
_AWAY_S = 20.0

LOG = """
import os, sys, wherry
run = wherry.init(project="p")
for i, size in enumerate(map(int, sys.argv[2:]), int(sys.argv[1])):
    a = wherry.Artifact("big", type="model", metadata={"i": i})
    with a.new_file("big.bin", mode="wb") as f:
        f.write(os.urandom(size))
    run.log_artifact(a)
"""


@pytest.mark.soak
def test_an_outage_in_mid_upload_loses_versions(tmp_path: Path) -> None:
    """The S3 server goes away in the middle of a file: ``status`` says so, and everything arrives when it is
    back; also when it was away for longer than each part is tried.
    """
    detach = {"WHERRY_FINISH": "detach"}
    with Seaweed(tmp_path / "seaweed") as server, Gate(server.port) as gate:
        place = bucket(server)
        address = place.address.replace(str(server.port), str(gate.port))
        with machine(tmp_path / "machine", address, place.env) as on:
            gate.close_after(_FIVE_PARTS)
            on.run(LOG, "0", str(_BIG_BYTES), env=detach)
            assert gate.awaited.wait(60)
            assert server.parts(place.bucket) >= 1
            server.stop()
            stopped = time.monotonic()
            gate.open()
            wait_until(lambda: _why(on) == {"StoreUnavailable"})
            on.run(LOG, "1", "20000000", "17", env=detach)
            if SOAK:
                wait_until(lambda: "store has trouble" in _said(on), 200)
            time.sleep(max(0.0, stopped + _AWAY_S - time.monotonic()))
            server.start()
            on.wait_all_done(200)
        found = records(place.objects, "p", "big")
        assert [record["metadata"]["i"] for record in found] == [0, 1, 2]
        bodies = [body for record in found for _, body in files(place.objects, "p", record)]
        assert [len(body) for body in bodies] == [_BIG_BYTES, 20_000_000, 17]


def _why(on: Machine) -> set[str]:
    """Why requests wait."""
    shown = json.loads(on.wherry("status", "--json"))["requests"]
    return {each["error"] for each in shown if each["error"]}


def _said(on: Machine) -> str:
    return (on.home / "daemon.log").read_text()


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
