"""Entries of other artifacts, put into a new one by ``add_reference``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import wherry
from tests.unit.client.recorder import Recorder
from tests.unit.client.test_download import digest, put
from wherry import errors
from wherry.wire import wherry_pb2 as pb

BIG = os.urandom(300_000)  # more than is held in memory


@pytest.fixture
def found(recorder: Recorder) -> wherry.Artifact:
    """A version with a small file, a big one, and references that a bucket's versions pin, or don't."""
    put(recorder, {"deep/a.txt": b"a", "big": BIG})
    for path, uri, version in (
        ("s3", "s3://bucket/key", "x/1"),
        ("gs", "gs://bucket/key", "17"),
        ("said", "s3://bucket/key?versionId=y", "y"),
        ("http", "https://h/x", ""),
    ):
        reference = pb.Reference(uri=uri, version=version)
        recorder.manifest.append(pb.Entry(path=path, digest="etag:9b", size=1, reference=reference))
    return wherry.Api({"project": "cats"}).artifact("data:v0")


def test_bytes_of_another_artifact_are_lost(found: wherry.Artifact, recorder: Recorder) -> None:
    """An entry's bytes become the new artifact's, under its last name or the one that is given."""
    artifact = wherry.Artifact("new", "t")
    (entry,) = artifact.add_reference(found.get_entry("deep/a.txt"))
    assert (entry.path, entry.size, entry.digest) == ("a.txt", 1, digest(b"a"))
    artifact.add_reference(found.get_entry("big"), name="kept/big")
    artifact.add_reference(found.get_entry("big"), name="kept/big")  # the same bytes: fine
    with pytest.raises(errors.PathTaken):
        artifact.add_reference(found.get_entry("big"), name="a.txt")
    wherry.init(project="cats").log_artifact(artifact)
    assert recorder.read == {"a.txt": b"a", "kept/big": BIG}


def test_entry_of_an_artifact_that_is_not_logged(tmp_path: Path, recorder: Recorder) -> None:
    """What was not logged yet lends its captured bytes, and nobody is asked."""
    file = tmp_path / "f"
    file.write_bytes(b"captured")
    source, artifact = wherry.Artifact("a", "t"), wherry.Artifact("b", "t")
    entry = source.add_file(str(file))
    file.write_bytes(b"changed later")
    artifact.add_reference(entry)
    assert artifact.digest == source.digest


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("s3", "s3://bucket/key?versionId=x%2F1"),
        ("gs", "gs://bucket/key#17"),
        ("said", "s3://bucket/key?versionId=y"),
        ("http", "https://h/x"),
    ],
)
def test_reference_becomes_another(found: wherry.Artifact, path: str, uri: str) -> None:
    """A reference becomes one again, of the version that was seen where the bucket keeps versions."""
    artifact = wherry.Artifact("new", "t")
    (entry,) = artifact.add_reference(found.get_entry(path), name="there")
    assert (entry.path, entry.ref_target()) == ("there", uri)


def test_url_names_another_entry(found: wherry.Artifact, recorder: Recorder) -> None:
    """``ref_url()`` may be given in an entry's place, in a run and without one."""
    url = found.get_entry("deep/a.txt").ref_url()
    assert url == "wherry-artifact://cats/data:v0/deep/a.txt"
    artifact = wherry.Artifact("new", "t")
    artifact.add_reference(url)
    wherry.init(project="dogs")
    artifact.add_reference(url, name="again")
    assert [entry.path for entry in artifact.files()] == ["a.txt", "again"]
    with pytest.raises(errors.EntryMissing):
        artifact.add_reference("wherry-artifact://cats/data:v0/nothing")
    for bad in ("wherry-artifact://cats", "wherry-artifact://cats/data/x", "wherry-artifact:///:/"):
        with pytest.raises(errors.BadURI, match="names no entry"):
            artifact.add_reference(bad)


def test_disabled_mode_brings_bytes(recorder: Recorder, found: wherry.Artifact) -> None:
    """In disabled mode nothing is fetched and nobody is asked."""
    wherry.init(mode="disabled")
    artifact = wherry.Artifact("new", "t")
    assert artifact.add_reference(found.get_entry("deep/a.txt")) == []
    assert artifact.add_reference("wherry-artifact://cats/data:v9/x") == []
    assert (recorder.asked_files, recorder.asked_places) == ([], [])


def test_server_said_something_else(found: wherry.Artifact) -> None:
    """``entry.extra`` has what W&B's has: the ETag and version of a reference, of a file nothing."""
    assert found.get_entry("s3").extra == {"etag": "9b", "versionID": "x/1"}
    assert found.get_entry("http").extra == {"etag": "9b"}
    assert found.get_entry("big").extra == {}
