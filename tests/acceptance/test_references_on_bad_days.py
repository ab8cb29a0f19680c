"""References whose servers have trouble, or that hold what nobody should see; with a real daemon."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.etags import EtagServer, etag, etag_server
from tests.support.machine import Machine, wait_until
from tests.support.reading import FolderObjects, manifest, records

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def server() -> Iterator[EtagServer]:
    with etag_server() as made:
        made.files["/x"] = b"x"
        yield made


def _records(machine: Machine, name: str) -> list[dict[str, object]]:
    return list(records(FolderObjects(Path(machine.store.removeprefix("file://"))), "p", name))


def _requests(machine: Machine) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(machine.wherry("status", "--json"))["requests"]
    return found


LOG = """
import sys, wherry
run = wherry.init(project="p")
for name, uri in zip(sys.argv[1::2], sys.argv[2::2]):
    a = wherry.Artifact(name, type="t", metadata={"uri": uri.rpartition("/")[2]})
    a.add_reference(uri, name="x", keep_secrets=True)
    run.log_artifact(a)
"""
DETACHED = {"WHERRY_FINISH": "detach"}


def test_trouble_is_shown_otherwise(machine: Machine, server: EtagServer) -> None:
    """A server in trouble is named by its host, its artifact waits, others go on; then it goes on too."""
    server.sick.add("/x")
    with etag_server() as other:
        other.files["/x"] = b"well"
        machine.run(LOG, "ill", f"{server.url}/x", "well", f"{other.url}/x", env=DETACHED)
        wait_until(lambda: _records(machine, "well"))
    wait_until(lambda: any("503" in str(each) for each in _requests(machine)))
    (request,) = _requests(machine)
    host = server.url.removeprefix("http://")
    assert request["name"] == "ill"
    assert f"{host} answers 503" in json.dumps(request)
    assert f"{host} answers 503" in machine.wherry("status").replace("\n", " ")
    server.sick.clear()
    machine.wherry("retry", "--all", check=False)
    machine.wait_all_done()
    assert len(_records(machine, "ill")) == 1


def test_lane_waits_for_a_dead_server_for_ever(machine: Machine, server: EtagServer) -> None:
    """After reference_timeout_s the artifact fails alone, without a number, and its lane goes on."""
    machine.home.mkdir(parents=True)
    (machine.home / "config.toml").write_text("reference_timeout_s = 1\n")
    server.sick.add("/sick")
    machine.run(LOG, "a", f"{server.url}/sick", "a", f"{server.url}/x", env=DETACHED)
    wait_until(lambda: _records(machine, "a"))
    (record,) = _records(machine, "a")
    assert (record["version"], record["metadata"]) == (0, {"uri": "x"})
    (failed,) = _requests(machine)
    told = json.dumps(failed)
    assert f"{server.url}/sick" in told
    assert "reference_timeout_s" in told and "503" in told


def test_silence_is_waited_out_by_others(machine: Machine, server: EtagServer) -> None:
    """A server that takes the connection and says nothing holds up its own artifact only."""
    server.silent.add("/silent")
    uris = ["silent", f"{server.url}/silent", "other", f"{server.url}/x"]
    machine.run(LOG, *uris, env=DETACHED)
    wait_until(lambda: _records(machine, "other"))
    assert [each["name"] for each in _requests(machine)] == ["silent"]


def test_server_is_asked_before_it_wants_to(machine: Machine, server: EtagServer) -> None:
    """Who says Retry-After is left alone for so long."""
    server.busy["/x"] = 2
    machine.run(LOG, "a", f"{server.url}/x")
    first, second = (when for path, when in server.asked if path == "/x")
    assert second - first >= 2
    assert len(_records(machine, "a")) == 1


def test_password_is_told(machine: Machine, server: EtagServer) -> None:
    """A password that the user keeps is in the reference and nowhere else: no log, status or error."""
    host = server.url.removeprefix("http://")
    good, bad = (f"http://me:geheim@{host}/{name}" for name in ("x", "gone"))
    said = machine.run(LOG + "\nimport os; os._exit(0)", "good", good, "bad", bad, env=DETACHED)
    wait_until(lambda: any("404" in str(each) for each in _requests(machine)))
    told = said + machine.wherry("status") + machine.wherry("status", "--json")
    told += (machine.home / "daemon.log").read_text()
    assert "404" in told
    assert "geheim" not in told
    (record,) = _records(machine, "good")
    objects = FolderObjects(Path(machine.store.removeprefix("file://")))
    (line,) = manifest(objects, "p", record)
    assert line["ref"] == good


def test_one_answer_is_two(machine: Machine, server: EtagServer) -> None:
    """A file that changes all the time is the same in one artifact, under however many names."""
    source = """
    import sys, wherry
    with wherry.init(project="p") as run:
        a = wherry.Artifact("twice", type="t")
        for n in range(20): a.add_reference(sys.argv[1], name=f"n{n}")
        run.log_artifact(a)
    """
    machine.run(source, f"{server.url}/x")
    assert server.answers() == 1
    (record,) = _records(machine, "twice")
    objects = FolderObjects(Path(machine.store.removeprefix("file://")))
    digests = {line["digest"] for line in manifest(objects, "p", record)}
    assert digests == {"etag:" + etag(b"x").strip('"')}


SCHEME = """
import wherry
with wherry.init(project="p") as run:
    a = wherry.Artifact("ipfs", type="t")
    a.add_reference("ipfs://bafy/cat.png", name="cat.png")
    run.log_artifact(a).wait()
    print(a.get_entry("cat.png").digest)
    try: wherry.Artifact("b", type="t").add_reference("hdfs://x/y")
    except wherry.errors.BadURI as error: print(error.message)
"""


def test_pages_example_adds_no_scheme(tmp_path: Path) -> None:
    """The page's example of a further scheme works as it stands."""
    page = (REPOSITORY / "docs/references.md").read_text()
    declared = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)[-1]
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[-1]
    packages = tmp_path / "packages"
    (packages / "my_package").mkdir(parents=True)
    (packages / "my_package/__init__.py").touch()
    (packages / "my_package/ipfs.py").write_text(code)
    told = packages / "my_package-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    group = declared.replace('[project.entry-points."wherry.references"]', "[wherry.references]")
    (told / "entry_points.txt").write_text(group.replace('"', ""))
    made = Machine(tmp_path / "machine", env={"PYTHONPATH": str(packages)})
    try:
        digest, said = made.run(SCHEME).splitlines()
    finally:
        made.close()
    assert digest == "ipfs:bafy/cat.png"
    assert "ipfs" in said and "hdfs://" in said
