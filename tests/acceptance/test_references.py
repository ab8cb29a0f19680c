"""References to servers, from the call to the version and back, with a real daemon and a real server."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.etags import EtagServer, etag, etag_server
from tests.support.machine import Machine, wait_until
from tests.support.reading import FolderObjects, manifest, records


@pytest.fixture
def server() -> Iterator[EtagServer]:
    with etag_server() as made:
        yield made


def _lines(machine: Machine, name: str) -> list[list[dict[str, object]]]:
    """The manifests of an artifact's versions."""
    objects = FolderObjects(Path(machine.store.removeprefix("file://")))
    return [manifest(objects, "p", record) for record in records(objects, "p", name)]


MANY = """
import sys, wherry
url, count, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
with wherry.init(project="p") as run:
    a = wherry.Artifact(name, type="dataset")
    for n in range(count):
        a.add_reference(f"{url}/f{n}", name=f"d/{n:05d}")
    run.log_artifact(a)
    print("logged", flush=True)
"""

NAMES = """
import sys, wherry
url = sys.argv[1]
with wherry.init(project="p") as run:
    a = wherry.Artifact("names", type="dataset")
    entries = a.add_reference(f"{url}/model.h5")
    assert [(e.path, e.ref) for e in entries] == [("model.h5", f"{url}/model.h5")]
    a.add_reference(f"{url}/checkpoints/model.h5?x=1", name="models/my.h5")
    a.add_reference(f"{url}/nohead/plain.txt")
    a.add_reference(f"{url}/to?{url}/a%20b.txt", name="moved")
    a.add_reference(f"{url}/a%20b.txt")
    a.add_reference("hdfs://cluster/x", checksum=False)
    run.log_artifact(a).wait()
    entry = a.get_entry("models/my.h5")
    print(entry.digest, entry.size, entry.ref, entry.version_id)
"""


def test_url_is_recorded_otherwise(machine: Machine, server: EtagServer) -> None:
    """Names, ETags and sizes are what the page says; HEAD that is refused and redirects are no trouble."""
    for path in ("/model.h5", "/checkpoints/model.h5", "/nohead/plain.txt", "/a b.txt"):
        server.files[path] = path.encode()
    digest, size, ref, version = machine.run(NAMES, server.url).split()
    assert digest == "etag:" + etag(b"/checkpoints/model.h5").strip('"')
    assert (size, version) == ("21", "None")
    assert ref == f"{server.url}/checkpoints/model.h5?x=1"
    (lines,) = _lines(machine, "names")
    seen = {line["path"]: (line["digest"], line["size"]) for line in lines}

    def told(path: str) -> tuple[str, int]:
        return "etag:" + etag(path.encode()).strip('"'), len(path)

    assert seen == {
        "model.h5": told("/model.h5"),
        "models/my.h5": told("/checkpoints/model.h5"),
        "plain.txt": told("/nohead/plain.txt"),
        "moved": told("/a b.txt"),
        "a b.txt": told("/a b.txt"),
        "x": (None, None),
    }
    assert server.hits["GET", "/nohead/plain.txt"] == 1


def test_flaky_server_gives_another_manifest(machine: Machine, server: EtagServer) -> None:
    """A server that fails one question in five leads to the same manifest as a healthy one."""
    for number in range(200):
        server.files[f"/f{number}"] = b"%d" % number
    machine.run(MANY, server.url, "200", "healthy")
    server.fail_every = 5
    machine.run(MANY, server.url, "200", "flaky")
    ((healthy,), (flaky,)) = _lines(machine, "healthy"), _lines(machine, "flaky")
    for line in (*healthy, *flaky):
        del line["resolved"]
    assert healthy == flaky
    assert len(flaky) == 200


def test_killed_daemon_asks_for_all_again(machine: Machine, server: EtagServer) -> None:
    """A daemon that is killed in the middle asks only for what it had not kept, and everything arrives."""
    count = 2000
    for number in range(count):
        server.files[f"/f{number}"] = b"%d" % number
    server.delay_s = 0.02
    machine.run(MANY, server.url, str(count), "many", env={"WHERRY_FINISH": "detach"})
    wait_until(lambda: server.answers() >= 1000)
    assert machine.kill_daemon()
    asked = server.answers()
    machine.wait_all_done()
    (lines,) = _lines(machine, "many")
    assert [line["path"] for line in lines] == [f"d/{number:05d}" for number in range(count)]
    # Lost were at most the answers that were under way or not kept yet.
    assert asked < server.answers() <= count + 128 + 100


ORDER = """
import sys, time, wherry
url = sys.argv[1]
with wherry.init(project="p") as run:
    slow = wherry.Artifact("lane", type="t", metadata={"n": 0})
    slow.add_reference(f"{url}/slow")
    run.log_artifact(slow)
    for name, n in (("lane", 1), ("other", 0)):
        fast = wherry.Artifact(name, type="t", metadata={"n": n})
        with fast.new_file("x") as f: f.write(str(n))
        run.log_artifact(fast)
    fast.wait()
    print(slow.state, fast.version, flush=True)
    sys.stdin.readline()
"""


def test_slow_reference_loses_its_place(machine: Machine, server: EtagServer) -> None:
    """A version whose references take long comes before the next one in its lane; others go on."""
    server.files["/slow"] = b"slow"
    server.silent.add("/slow")
    program = machine.start(ORDER, server.url)
    assert program.wait_line() == "PENDING v0"
    status = json.loads(machine.wherry("status", "--json"))
    assert {request["name"] for request in status["requests"]} == {"lane"}
    server.silent.clear()
    machine.kill_daemon()  # or it would wait out the silence
    program.wait_done()
    objects = FolderObjects(Path(machine.store.removeprefix("file://")))
    assert [record["metadata"]["n"] for record in records(objects, "p", "lane")] == [0, 1]


BAD = """
import sys, wherry
run = wherry.init(project="p")
for name, uri in zip(sys.argv[1::2], sys.argv[2::2]):
    a = wherry.Artifact(name, type="t")
    a.add_reference(uri, name="x")
    run.log_artifact(a)
    try: a.wait(60)
    except wherry.errors.ReferenceFailed as error: print(name, "|", str(error).replace(chr(10), " "))
    else: print(name, "| no error")
"""


def test_reference_that_can_not_be_waits(machine: Machine, server: EtagServer) -> None:
    """What can't be had fails alone and soon, with its URI in the reason, and takes no number."""
    uris = {
        "gone": f"{server.url}/gone",
        "loop": f"{server.url}/to?{server.url}/to",
        "nobody": "http://no-such-host.invalid/x",
    }
    server.files["/ok"] = b"ok"
    arguments = [text for pair in uris.items() for text in pair]
    source = f"import os\nos.environ['WHERRY_FINISH'] = 'detach'\n{BAD}\nimport os; os._exit(0)"
    said = dict(line.split(" | ") for line in machine.run(source, *arguments).splitlines())
    assert set(said) == set(uris)
    for name, uri in uris.items():
        assert uri in said[name], said[name]
    assert "404" in said["gone"]
    assert "redirected" in said["loop"]
    assert "3 times" in said["nobody"]
    status = machine.wherry("status")
    assert "ReferenceFailed" in status or "404" in status
    assert not (Path(machine.store.removeprefix("file://")) / "p/artifacts/gone/versions").exists()


AT_THE_CALL = """
import wherry
wherry.init(project="p")
a = wherry.Artifact("a", type="t")
def refused(uri, **more):
    try: a.add_reference(uri, **more)
    except wherry.errors.WherryError as error: return type(error).__name__, str(error)
    return "", ""
kind, text = refused("gopher://host/x")
assert kind == "BadURI" and "http" in text and "s3" in text and "checksum=False" in text, text
for uri in ("http://", "http://host", "https:///x", "s3:///key", "no uri at all"):
    assert refused(uri)[0] == "BadURI", uri
for uri in ("https://me:pw@host/x", "https://b.s3.amazonaws.com/k?X-Amz-Signature=abc"):
    kind, text = refused(uri)
    assert kind == "BadURI" and "keep_secrets" in text and "pw" not in text and "abc" not in text, text
    assert a.add_reference(uri, name=uri[8:10], keep_secrets=True)
assert refused("http://host/model.h5") == ("", "")
assert refused("http://host/model.h5") == ("", "")
assert refused("http://other/model.h5")[0] == "PathTaken"
try: a.get_entry("model.h5").digest
except wherry.errors.ArtifactNotLoggedError: pass
else: raise AssertionError
"""


def test_bad_uri_is_taken_at_the_call(machine: Machine) -> None:
    """What the call can tell, it tells: unknown schemes, malformed URIs, secrets, taken paths."""
    machine.run(AT_THE_CALL)


BACK = """
import os, sys, wherry
url, step = sys.argv[1:]
with wherry.init(project="p") as run:
    if step == "log":
        a = wherry.Artifact("back", type="t")
        for name in ("small", "big", "empty"): a.add_reference(f"{url}/{name}", name=f"d/{name}")
        with a.new_file("own") as f: f.write("mine")
        run.log_artifact(a).wait()
    else:
        a = run.use_artifact("back:latest")
    try:
        folder = a.download("out-" + step)
        a.verify(folder)
        print(" ".join(f"{name}={os.path.getsize(folder + '/d/' + name)}" for name in os.listdir(folder + "/d")))
    except wherry.errors.ReferenceFailed as error:
        print("changed", error.message)
        print(sorted(os.listdir("out-" + step)), a.download("some", allow_missing_references=True))
"""


def test_changed_reference_is_downloaded(machine: Machine, server: EtagServer) -> None:
    """References come back as they were logged; one that has changed is named, and not written."""
    server.files.update({"/small": b"s" * 100, "/big": b"b" * 5_000_000, "/empty": b""})
    got = machine.run(BACK, server.url, "log").split()
    assert sorted(got) == ["big=5000000", "empty=0", "small=100"]
    heads = server.answers("GET")
    machine.run(BACK, server.url, "again")
    assert server.answers("GET") == heads + 3  # verify asks for no bodies
    server.files["/small"] = b"other"
    changed, rest = machine.run(BACK, server.url, "changed").splitlines()
    assert changed.startswith("changed ") and f"{server.url}/small" in changed
    assert not (machine.work / "out-changed/d/small").exists()
    assert (machine.work / "some/d/big").stat().st_size == 5_000_000
    assert not (machine.work / "some/d/small").exists()
    assert rest


def test_killed_daemon_sends_all_again(machine: Machine, server: EtagServer) -> None:
    """A download in whose middle the daemon is killed goes on where it was, and is the same file."""
    body = os.urandom(1 << 20) * 24
    server.files.update({"/small": b"s", "/big": body, "/empty": b""})
    machine.run(BACK, server.url, "log")
    server.ranges.clear()
    server.stuck_at["/big"] = 20 << 20
    program = machine.start(BACK, server.url, "again")
    wait_until(lambda: _written(machine.work / "out-again") >= 4 << 20)
    assert machine.kill_daemon()
    assert "big=25165824" in program.wait_done()
    assert (machine.work / "out-again/d/big").read_bytes() == body
    (asked,) = server.ranges
    assert int(asked.removeprefix("bytes=").rstrip("-")) >= 4 << 20


def _written(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
