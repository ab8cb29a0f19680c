"""The daemon is killed while servers are asked for what references are."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.soak import rounds
from tests.support.etags import EtagServer, etag_server
from tests.support.machine import Machine, machine, wait_until
from tests.support.queue import taken
from tests.support.reading import FolderObjects, manifest, records

REFERENCE_PLACES = (
    "prepare.lookups.before-save",
    "prepare.lookups.after-save",
    "queue.found.before-commit",
    "queue.found.after-commit",
)

LOG = """
import sys, wherry
with wherry.init(project="p") as run:
    a = wherry.Artifact("many", type="dataset")
    for n in range(300):
        a.add_reference(f"{sys.argv[1]}/f{n}", name=f"{n:03d}")
    run.log_artifact(a)
"""


@pytest.mark.parametrize("place", REFERENCE_PLACES)
def test_kill_loses_or_doubles_an_answer(tmp_path: Path, place: str) -> None:
    """Wherever the daemon is killed: each reference is in the version, once, as its server told it."""
    store, once = tmp_path / "store", tmp_path / "was-killed"
    store.mkdir()
    env = {"WHERRY_FAILPOINT": place, "WHERRY_FAILPOINT_ONCE": str(once)}
    with etag_server() as server, machine(tmp_path / "m", f"file://{store}", env) as on:
        server.files = {f"/f{n}": b"%d" % n for n in range(300)}
        on.run(LOG, server.url, env={"WHERRY_FINISH": "detach"})
        on.wait_all_done()
        assert once.exists(), f"{place} was not come by"
        assert taken(on.home) == 1
        objects = FolderObjects(store)
        (record,) = records(objects, "p", "many")
        lines = manifest(objects, "p", record)
    assert [line["path"] for line in lines] == [f"{n:03d}" for n in range(300)]
    assert {line["size"] for line in lines} == {1, 2, 3}


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(rounds(3, 60)))
def test_random_kills_change_the_manifest(tmp_path: Path, seed: int) -> None:
    """However often the daemon is killed while a flaky server is asked, the manifest is a good day's."""
    chance, store = random.Random(seed), tmp_path / "store"
    store.mkdir()
    with etag_server() as server, machine(tmp_path / "m", f"file://{store}") as on:
        server.files = {f"/f{n}": b"%d" % n for n in range(300)}
        on.run(LOG, server.url)
        server.fail_every, server.delay_s = 7, 0.05
        on.run(LOG.replace('"many"', '"killed"'), server.url, env={"WHERRY_FINISH": "detach"})
        for _ in range(chance.randint(1, 5)):
            _kill_after(on, server, chance.randint(0, 90))
        on.wait_all_done()
        assert taken(on.home) == 2
        assert _lines(store, "killed") == _lines(store, "many")


def _kill_after(on: Machine, server: EtagServer, answers: int) -> None:
    """Kill the daemon when so many further questions were answered, or nothing is left to ask."""
    end = min(server.answers() + answers, 600)
    wait_until(lambda: server.answers() >= end)
    on.kill_daemon()
    on.wherry("status")  # starts the next one


def _lines(store: Path, name: str) -> list[dict[str, object]]:
    (record,) = records(FolderObjects(store), "p", name)
    lines = manifest(FolderObjects(store), "p", record)
    return [{**line, "resolved": ""} for line in lines]
