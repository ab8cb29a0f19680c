"""The daemon is killed while servers are asked for what references are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.etags import etag_server
from tests.support.machine import machine
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
        objects = FolderObjects(store)
        (record,) = records(objects, "p", "many")
        lines = manifest(objects, "p", record)
    assert [line["path"] for line in lines] == [f"{n:03d}" for n in range(300)]
    assert {line["size"] for line in lines} == {1, 2, 3}
