"""Buckets on Google Cloud Storage: there and back, kills in big files, credentials that don't do."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from tests.acceptance.test_store_trouble import reasons
from tests.support.google import Google, GoogleObjects, Refuse
from tests.support.machine import Machine, machine, wait_until
from tests.support.reading import files, records
from tests.support.servers import FakeGcs
from wherryd.stores.parts import PART_BYTES

_BUCKETS = count()
_BIG_BYTES = 40 << 20

LOG = """
import hashlib, os, sys, wherry
run = wherry.init(project="p")
for n in range(3):
    a = wherry.Artifact("model", type="model", metadata={"n": n})
    for name in range(20):
        with a.new_file(f"small/{name}") as f: f.write(f"{n} {name} ä+%")
    if n == 1:
        digest = hashlib.sha256()
        with a.new_file("big.bin", mode="wb") as f:
            for _ in range(int(sys.argv[1]) >> 20):
                digest.update(piece := os.urandom(1 << 20))
                f.write(piece)
    run.log_artifact(a, aliases=["best"])
print(digest.hexdigest())
"""

READ = """
import hashlib, os, wherry
run = wherry.init(project="p")
found = run.use_artifact("model:v1")
root = found.download(root="out")
found.verify(root)
print(len(os.listdir(f"{root}/small")), open(f"{root}/small/7").read())
print(hashlib.sha256(open(f"{root}/big.bin", "rb").read()).hexdigest())
print(run.use_artifact("model:best").version, wherry.Api().artifact("p/model:latest").version)
"""


@pytest.fixture
def name() -> str:
    """A bucket's."""
    return f"runs-{os.getpid()}-{next(_BUCKETS)}"


def _on_google(server: Google, name: str) -> tuple[str, dict[str, str]]:
    return server.address(name, "some/prefix"), {}


def _on_emulator(server: FakeGcs, name: str) -> tuple[str, dict[str, str]]:
    """As Google's own tools are told of it."""
    server.make_bucket(name)
    return f"gs://{name}/some/prefix", {"STORAGE_EMULATOR_HOST": server.endpoint}


@pytest.mark.parametrize(("kind", "make"), [("gcs", _on_emulator), ("google", _on_google)])
def test_what_was_logged_is_read_otherwise(
    kind: str,
    make: Callable[..., tuple[str, dict[str, str]]],
    name: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """Small files in packs, a big one, aliases: another machine reads them as they were; ``doctor`` finds the
    store well.
    """
    address, env = make(request.getfixturevalue(kind), name)
    with machine(tmp_path / "one", address, env) as on:
        digest = on.run(LOG, str(_BIG_BYTES)).strip()
        store = json.loads(on.wherry("doctor", "--json", check=False))["store"]
        assert store["readable"] and store["address"].startswith(f"gs://{name}/some/prefix")
        assert "week" in on.wherry("gc", "--uploads", "--help")
    with machine(tmp_path / "two", address, env) as other:
        said = other.run(READ).splitlines()
    assert said == ["20 1 7 ä+%", digest, "v2 v2"]


def test_a_kill_costs_what_was_sent(tmp_path: Path, google: Google, name: str) -> None:
    """A daemon that is killed in the middle of a big file goes on at the server's offset, in the same
    session: what is sent again is less than a part.
    """
    address = google.address(name, "p")
    with machine(tmp_path / "machine", address, {"WHERRY_FINISH": "detach"}) as on:
        on.home.mkdir(mode=0o700)
        (on.home / "config.toml").write_text("max_bandwidth = '20 MB/s'\n")
        before = google.received
        digest = on.run(LOG, str(_BIG_BYTES)).strip()
        for share in (0.3, 0.7):
            wait_until(
                lambda share=share: google.received - before > share * _BIG_BYTES, 60, poll_s=0.002
            )
            assert on.kill_daemon()
            wait_until(lambda: on.daemon_pid() is None)
            on.wherry("status")  # starts it again
        on.wait_all_done()
    objects = GoogleObjects(google, name, "p")
    found = records(objects, "p", "model")
    assert [record["metadata"]["n"] for record in found] == [0, 1, 2]
    body = dict(files(objects, "p", found[1]))["big.bin"]
    assert hashlib.sha256(body).hexdigest() == digest
    assert google.received - before < _BIG_BYTES + PART_BYTES
    sessions = [session for session in google.sessions.values() if session.bucket == name]
    assert len(sessions) == 1


def test_a_cancelled_upload_stays(tmp_path: Path, google: Google, name: str) -> None:
    """The session of a request that is not wanted any more is cancelled."""
    address = google.address(name, "p")

    def sessions() -> int:
        return sum(session.bucket == name for session in google.sessions.values())

    with machine(tmp_path / "machine", address, {"WHERRY_FINISH": "detach"}) as on:
        on.home.mkdir(mode=0o700)
        (on.home / "config.toml").write_text("max_bandwidth = '10 MB/s'\n")
        on.run(LOG, str(_BIG_BYTES))
        wait_until(lambda: sessions() == 1, 60)
        on.wherry("cancel", "--all")
        wait_until(lambda: sessions() == 0, 30)


def test_bad_credentials_wait(tmp_path: Path, name: str) -> None:
    """Where no credentials will do, or there are none, requests wait with ``AccessRefused``, and go on when
    they are mended; a missing bucket waits with its own class, and one that fails with its.
    """
    with Google() as server:
        address = server.address(name, "p")
        server.tokens = {"good"}
        with machine(tmp_path / "machine", address, {"WHERRY_FINISH": "detach"}) as on:
            on.run(LOG, "1000000")
            _waits(on, address, "AccessRefused")
            server.tokens = None
            objects, server.buckets = server.buckets, {}
            on.wherry("retry", "--all")
            _waits(on, address, "StoreMissing")
            server.buckets = objects
            server.before = _fail
            on.wherry("retry", "--all")
            _waits(on, address, "StoreUnavailable")
            server.before = None
            on.wherry("retry", "--all")
            on.wait_all_done()
        assert len(records(GoogleObjects(server, name, "p"), "p", "model")) == 3


def _fail(_: object) -> None:
    raise Refuse(503, "backendError", "Backend Error")


def test_a_key_file_that_leads_nowhere(tmp_path: Path) -> None:
    """On Google's own address a key file that leads to no token is refused before anything is asked, and the
    reason names it.
    """
    (tmp_path / "key.json").write_text("{}")
    env = {
        "WHERRY_FINISH": "detach",
        "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "key.json"),
    }
    with machine(tmp_path / "machine", "gs://bucket/prefix", env) as on:
        on.run(LOG, "1000000")
        _waits(on, "gs://bucket/prefix", "AccessRefused")
        said = on.wherry("status")
        assert "lead to no token" in said and "key.json of a client" in said


def _waits(on: Machine, address: str, kind: str) -> None:
    wait_until(lambda: reasons(on, address) == {kind}, 60)
