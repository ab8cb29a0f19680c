"""References to buckets, from the call to the version and back, with a real daemon and real servers."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.support.machine import Machine, wait_until
from tests.support.reading import FolderObjects, manifest, records
from tests.support.servers import FakeGcs, Seaweed

_NUMBERS = count()


@pytest.fixture
def bucket(seaweed: Seaweed) -> str:
    """A bucket of the test's own."""
    name = f"data-{os.getpid()}-{next(_NUMBERS)}"
    seaweed.make_bucket(name)
    return name


@pytest.fixture
def machine(tmp_path: Path, seaweed: Seaweed, gcs: FakeGcs) -> Iterator[Machine]:
    """A machine whose programs have credentials, and whose daemon is started without."""
    made = Machine(tmp_path / "machine", env={"AWS_EC2_METADATA_DISABLED": "true"})
    made.wherry("daemon", "start")
    made.env |= seaweed.reader
    made.env |= {"AWS_ENDPOINT_URL": seaweed.endpoint, "AWS_REGION": "us-east-1"}
    made.env["STORAGE_EMULATOR_HOST"] = gcs.endpoint
    yield made
    made.close()


def _lines(machine: Machine, name: str) -> list[dict[str, object]]:
    """The manifest of an artifact's only version."""
    objects = FolderObjects(Path(machine.store.removeprefix("file://")))
    (record,) = records(objects, "p", name)
    return manifest(objects, "p", record)


def etag(body: bytes) -> str:
    return f"etag:{hashlib.md5(body).hexdigest()}"


TABLE = """
import json, sys, wherry
base = sys.argv[1]
def log(name, *calls):
    a = wherry.Artifact(name, type="dataset")
    for uri, more in calls:
        a.add_reference(uri, **more)
    return run.log_artifact(a)
with wherry.init(project="p") as run:
    log("object", (f"{base}/model.h5", {}))
    log("nested", (f"{base}/checkpoints/model.h5", {}))
    log("named", (f"{base}/model.h5", {"name": "models/my.h5"}))
    log("prefix", (f"{base}/images", {}))
    log("below", (f"{base}/images", {"name": "images"}))
    log("slash", (f"{base}/images/", {"name": "images"}))
    log("whole", (base, {}))
"""


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_page_says_otherwise(
    machine: Machine, seaweed: Seaweed, gcs: FakeGcs, bucket: str, scheme: str
) -> None:
    """Each line of the page's table of references gives the entries that it says."""
    server = seaweed if scheme == "s3" else gcs
    gcs.make_bucket(bucket)
    for key in ("model.h5", "checkpoints/model.h5", "images/cat.png", "images/dog.png"):
        server.put(bucket, key, key.encode())
    server.put(bucket, "images/", b"")
    server.put(bucket, "images.csv", b"x")
    base = f"{scheme}://{bucket}"
    machine.run(TABLE, base)
    paths = {
        name: {line["path"]: line["ref"] for line in _lines(machine, name)}
        for name in ("object", "nested", "named", "prefix", "below", "slash", "whole")
    }
    pets = {"cat.png": f"{base}/images/cat.png", "dog.png": f"{base}/images/dog.png"}
    below = {f"images/{name}": uri for name, uri in pets.items()}
    assert paths == {
        "object": {"model.h5": f"{base}/model.h5"},
        "nested": {"model.h5": f"{base}/checkpoints/model.h5"},
        "named": {"models/my.h5": f"{base}/model.h5"},
        "prefix": pets,
        "below": below,
        "slash": below,
        "whole": below
        | {key: f"{base}/{key}" for key in ("checkpoints/model.h5", "images.csv", "model.h5")},
    }
    (line,) = _lines(machine, "object")
    assert line["size"] == 8
    if scheme == "s3":
        assert line["digest"] == etag(b"model.h5")
    machine.run(
        """
        import wherry
        artifact = wherry.Api().artifact("p/whole:v0")
        artifact.download("there")
        artifact.verify("there")
        """
    )
    assert (machine.work / "there/images/cat.png").read_text() == "images/cat.png"


MOST = """
import sys, wherry
uri, most, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
with wherry.init(project="p") as run:
    a = wherry.Artifact(name, type="dataset")
    a.add_reference(uri, max_objects=most)
    try:
        print(run.log_artifact(a).wait().version)
    except wherry.errors.ReferenceFailed as error:
        print(error.message)
"""


def test_too_many_objects_pass(machine: Machine, seaweed: Seaweed, bucket: str) -> None:
    """10,000 objects pass, 10,001 fail and take no number, and ``max_objects`` says otherwise."""
    seaweed.fill_folder(bucket, "big/ten", 10_000)
    assert machine.run(MOST, f"s3://{bucket}/big", "10000", "ten") == "v0\n"
    assert len(_lines(machine, "ten")) == 10_000
    seaweed.put(bucket, "big/more")
    said = machine.run(MOST, f"s3://{bucket}/big", "10000", "more")
    assert f"s3://{bucket}/big has more than 10,000 objects" in said
    assert machine.run(MOST, f"s3://{bucket}/big", "20000", "more") == "v0\n"
    assert len(_lines(machine, "more")) == 10_001


def test_new_version_is_read(machine: Machine, seaweed: Seaweed, bucket: str) -> None:
    """What was logged comes back, whatever became of it in a bucket that keeps versions."""
    seaweed.keep_versions(bucket)
    versions = {key: seaweed.put(bucket, f"p/{key}", key.encode()) for key in ("a b+%", "c/é")}
    machine.run(
        """
        import sys, wherry
        with wherry.init(project="p") as run:
            a = wherry.Artifact("back", type="dataset")
            a.add_reference(sys.argv[1])
            run.log_artifact(a)
        """,
        f"s3://{bucket}/p",
    )
    assert {line["path"]: line["version"] for line in _lines(machine, "back")} == versions
    for key in versions:
        seaweed.put(bucket, f"p/{key}", b"other")
    seaweed.delete(bucket, "p/c/é")
    machine.run(
        """
        import wherry
        wherry.Api().artifact("p/back:v0").download("there")
        """
    )
    for key in versions:
        assert (machine.work / "there" / key).read_text() == key


def test_refusals_are_told_otherwise(machine: Machine, seaweed: Seaweed, bucket: str) -> None:
    """A missing bucket, key or version fails the artifact alone."""
    seaweed.put(bucket, "m")
    for uri, said in (
        ("s3://no-such-bucket/x", "the bucket of s3://no-such-bucket/x is not there"),
        (f"s3://{bucket}/nothing", "is no object, and no object lies below it"),
        (f"s3://{bucket}/m?versionId=6714b64be8e2572964a5e2aca88cc13d", "is not there"),
    ):
        assert said in machine.run(MOST, uri, "10", "refused")


CLASH = """
import sys, wherry
with wherry.init(project="p") as run:
    a = wherry.Artifact("clash", type="dataset")
    for uri in sys.argv[1:]: a.add_reference(uri)
    try: print(run.log_artifact(a).wait().version)
    except wherry.errors.ReferenceFailed as error: print(error.message)
"""


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_one_path_has_two_objects(
    machine: Machine, seaweed: Seaweed, gcs: FakeGcs, bucket: str, scheme: str
) -> None:
    """Two references that land on one path fail the artifact, which names both; nothing is logged."""
    server = seaweed if scheme == "s3" else gcs
    gcs.make_bucket(bucket)
    for key in ("one/a", "two/a", "two/b"):
        server.put(bucket, key, key.encode())
    base = f"{scheme}://{bucket}"
    said = machine.run(CLASH, f"{base}/one", f"{base}/two")
    assert f"{base}/one/a" in said and f"{base}/two/a" in said and "'a'" in said
    assert machine.run(CLASH, f"{base}/two", f"{base}/two/") == "v0\n"
    said = machine.run(MOST, f"{base}/tw", "10", "none")
    assert f"{base}/tw is no object, and no object lies below it" in said


def test_wrong_secret_is_final(machine: Machine, seaweed: Seaweed, bucket: str) -> None:
    """What wrong credentials can't see waits for good ones, which any program of the home may bring."""
    seaweed.put(bucket, "m")
    machine.run(
        MOST.replace(".wait().version", "").replace("print", "str"),
        f"s3://{bucket}/m",
        "10",
        "late",
        env={"AWS_SECRET_ACCESS_KEY": "wrong", "WHERRY_FINISH": "detach"},
    )
    wait_until(lambda: "SignatureDoesNotMatch" in machine.wherry("status"))
    machine.run(MOST, f"s3://{bucket}/m", "10", "good")  # hands over good ones
    machine.wait_all_done()
    assert [line["path"] for line in _lines(machine, "late")] == ["m"]


def test_new_generation_is_read(machine: Machine, gcs: FakeGcs, bucket: str) -> None:
    """A generation that was logged comes back; a pinned one that is missing fails the artifact alone."""
    gcs.make_bucket(bucket, versions=True)
    old = gcs.put(bucket, "m", b"old")
    assert machine.run(MOST, f"gs://{bucket}/m", "1", "m") == "v0\n"
    gcs.put(bucket, "m", b"newer")
    assert machine.run(MOST, f"gs://{bucket}/m#{old}", "1", "pinned") == "v0\n"
    for name in ("m", "pinned"):
        assert [line["version"] for line in _lines(machine, name)] == [old]
    assert "m#123 is not there" in machine.run(MOST, f"gs://{bucket}/m#123", "1", "refused")
    machine.run("import wherry; wherry.Api().artifact('p/m:v0').download('there')")
    assert (machine.work / "there/m").read_bytes() == b"old"


def test_own_checksum_is_lost(
    machine: Machine, seaweed: Seaweed, gcs: FakeGcs, bucket: str
) -> None:
    """What servers know of an object beside its digest is in the manifest and shown; it makes no version."""
    gcs.make_bucket(bucket)
    seaweed.put(bucket, "p/m", b"data", ChecksumAlgorithm="SHA256")
    gcs.put(bucket, "p/m", b"data")
    sums = {
        "s3": [f"sha256:{hashlib.sha256(b'data').hexdigest()}"],
        "gs": [f"md5:{hashlib.md5(b'data').hexdigest()}"],
    }
    for scheme, known in sums.items():
        assert machine.run(MOST, f"{scheme}://{bucket}/p/m", "1", scheme) == "v0\n"
        (line,) = _lines(machine, scheme)
        assert line["sums"] == known
        shown = json.loads(machine.wherry("show", f"p/{scheme}", "--json"))
        assert [file["sums"] for file in shown["files"]] == [known]
        machine.run(
            "import sys, wherry; wherry.Api().artifact(sys.argv[1]).download('there')",
            f"p/{scheme}:v0",
        )
        assert (machine.work / "there/m").read_bytes() == b"data"
    # through its prefix, of which S3 tells no more than the ETag
    assert machine.run(MOST, f"s3://{bucket}/p", "1", "s3") == "v0\n"


def test_other_bytes_of_one_crc_are_taken(machine: Machine, gcs: FakeGcs, bucket: str) -> None:
    """Other bytes of the same CRC32C and size are refused at the download by their MD5."""
    one, other = b"30720522", b"33451918"  # both have the CRC32C 0x7ae8ff70
    gcs.make_bucket(bucket)
    gcs.put(bucket, "m", one)
    assert machine.run(MOST, f"gs://{bucket}/m", "1", "m") == "v0\n"
    gcs.put(bucket, "m", other)
    said = machine.run(
        """
        import wherry
        try: wherry.Api().artifact("p/m:v0").download("there")
        except wherry.errors.ReferenceFailed as error: print(error.message)
        """
    )
    was, now = (hashlib.md5(body).hexdigest() for body in (one, other))
    assert said.strip() == (
        f"gs://{bucket}/m has changed since it was logged: its md5 was {was} and is {now}"
    )
    assert not (machine.work / "there/m").exists()
