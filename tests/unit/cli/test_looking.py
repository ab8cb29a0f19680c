"""``wherry ls`` and ``wherry show``: what of a store they print, and under which keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.cli.conftest import Wherry
from tests.unit.cli.fake import FakeDaemon, Refusal, pb

_RESOLVED = "2026-11-23T14:00:00.000Z"


def _version(**fields: Any) -> pb.Version:
    known: dict[str, Any] = {
        "store": "file:///store",
        "project": "cats",
        "name": "model",
        "version": 3,
        "type": "model",
        "metadata": b'{"step": 7}',
        "digest": "sha256:" + "d" * 64,
        "content": "sha256:" + "c" * 64,
        "manifest": "sha256:" + "f" * 64,
        "entries": 2,
        "size": 4908,
        "aliases": ["best", "latest"],
        "request_id": "0193e0c2-7f3a-7000-8000-000000000001",
        "created": "2026-11-23T14:00:00.123Z",
        "run": pb.Run(id="run1", job_type="train", project="cats"),
        "inputs": ["cats/pets:v3"],
        "client": "wherry 0.1.0",
    }
    return pb.Version(**{**known, **fields})


_FILE = pb.Entry(path="model.pt", digest="sha256:" + "a" * 64, size=4096)
_REFERENCE = pb.Entry(
    path="images/cat.png",
    digest="etag:9b2c",
    size=812,
    reference=pb.Reference(
        uri="s3://b/cat.png", version="x1", resolved=_RESOLVED, sums=["sha256:5e"]
    ),
)


def test_record_lacks_a_key(daemon: FakeDaemon, as_json: Callable[..., Any]) -> None:
    """show gives the record's keys, and each entry's; a reference says where and what was seen."""
    daemon.found, daemon.entries = [_version()], [_REFERENCE, _FILE]
    assert as_json("show", "cats/model:best") == {
        "store": "file:///store",
        "project": "cats",
        "name": "model",
        "version": "v3",
        "type": "model",
        "description": None,
        "metadata": {"step": 7},
        "aliases": ["best", "latest"],
        "tags": [],
        "entries": 2,
        "size": 4908,
        "digest": "sha256:" + "d" * 64,
        "content": "sha256:" + "c" * 64,
        "manifest": "sha256:" + "f" * 64,
        "request": "0193e0c2-7f3a-7000-8000-000000000001",
        "created": "2026-11-23T14:00:00.123Z",
        "run": {"id": "run1", "name": None, "group": None, "job_type": "train"},
        "inputs": ["cats/pets:v3"],
        "client": "wherry 0.1.0",
        "files": [
            {
                "path": "images/cat.png",
                "digest": "etag:9b2c",
                "size": 812,
                "ref": "s3://b/cat.png",
                "scheme": "s3",
                "version": "x1",
                "resolved": _RESOLVED,
                "sums": ["sha256:5e"],
            },
            {"path": "model.pt", "digest": "sha256:" + "a" * 64, "size": 4096},
        ],
    }


def test_empty_version_is_no_json(daemon: FakeDaemon, as_json: Callable[..., Any]) -> None:
    """A version without entries has an empty array."""
    daemon.found = [_version(entries=0, description="")]
    found = as_json("show", "model")
    assert (found["files"], found["description"]) == ([], "")


def test_other_version_is_shown(daemon: FakeDaemon, wherry: Wherry) -> None:
    """What is named reaches the daemon: project, name, version, type, store, manifest."""
    daemon.found = [_version()]
    wherry("show", "dogs/model:v3", "--type", "model", "--project", "cats", "--store", "/data")
    (sent,) = daemon.named("GetVersion")
    assert (sent.project, sent.name, sent.version) == ("dogs", "model", "v3")
    assert (sent.type, sent.store) == ("model", "file:///data")
    (read,) = daemon.named("ReadManifest")
    assert (read.project, read.manifest) == ("cats", "sha256:" + "f" * 64)


def test_reference_looks_like_a_file(daemon: FakeDaemon, wherry: Wherry) -> None:
    """A reference's row has its URI, scheme, checksum and how long ago it was seen."""
    daemon.found, daemon.entries = [_version()], [_REFERENCE, _FILE]
    lines = wherry("show", "model").stdout.splitlines()
    row = next(line for line in lines if line.startswith("images/cat.png"))
    assert "s3://b/cat.png" in row and " s3 " in row and "etag:9b2c" in row
    assert row.endswith("ago")
    assert next(line for line in lines if line.startswith("model.pt")).endswith("a" * 64)


def test_unchecked_reference_has_a_digest(
    daemon: FakeDaemon, wherry: Wherry, as_json: Callable[..., Any]
) -> None:
    """A reference without a checksum is shown as one."""
    bare = pb.Entry(path="x", reference=pb.Reference(uri="https://example.org/x"))
    daemon.found, daemon.entries = [_version(entries=1)], [bare]
    assert "no checksum" in wherry("show", "model").stdout
    assert as_json("show", "model")["files"][0]["digest"] is None


def test_long_manifest_fills_the_terminal(daemon: FakeDaemon, wherry: Wherry) -> None:
    """A table stops after 100 entries and says so; --all prints them."""
    daemon.found = [_version(entries=120)]
    daemon.entries = [pb.Entry(path=f"{number:03d}", size=1) for number in range(120)]
    shown = wherry("show", "model")
    assert "\n099 " in shown.stdout and "\n100 " not in shown.stdout
    assert "20 more" in shown.stderr
    assert "\n119 " in wherry("show", "model", "--all").stdout


def test_path_steers_the_terminal(daemon: FakeDaemon, wherry: Wherry) -> None:
    """A path with control characters is escaped, in a table."""
    daemon.found, daemon.entries = [_version()], [pb.Entry(path="a\x1b[2Jb", size=1)]
    assert "\x1b" not in wherry("show", "model").stdout


def test_artifacts_are_not_listed(
    daemon: FakeDaemon, wherry: Wherry, as_json: Callable[..., Any]
) -> None:
    """ls lists the project's artifacts; one whose versions are all deleted has no latest."""
    daemon.artifacts = [
        pb.ArtifactName(project="cats", name="model", type="model", latest=3),
        pb.ArtifactName(project="cats", name="old", type="dataset", latest=-1),
    ]
    assert as_json("ls", "--project", "cats", "--type", "model") == [
        {"project": "cats", "name": "model", "type": "model", "latest": "v3"},
        {"project": "cats", "name": "old", "type": "dataset", "latest": None},
    ]
    (sent,) = daemon.named("ListArtifacts")
    assert (sent.project, sent.type) == ("cats", "model")
    assert wherry("ls").stdout.splitlines()[1].split() == ["model", "model", "v3"]


def test_versions_are_not_listed(daemon: FakeDaemon, as_json: Callable[..., Any]) -> None:
    """ls NAME lists versions, with the keys of show but for the files."""
    daemon.found = [_version(), _version(version=2, aliases=[])]
    found = as_json("ls", "cats/model")
    assert [each["version"] for each in found] == ["v3", "v2"]
    assert set(found[0]) == set(as_json("show", "model")) - {"files"}


def test_missing_artifact_is_a_traceback(daemon: FakeDaemon, wherry: Wherry) -> None:
    """What is not there is told in a line, with exit code 1."""
    daemon.refusals["ListVersions"] = Refusal("NotFoundError", "there is no artifact cats/x")
    shown = wherry("ls", "cats/x", exit_code=1)
    assert shown.stderr.splitlines()[0] == "wherry: there is no artifact cats/x"
    assert "wherry queue" in shown.stderr
    assert shown.stdout == ""


@pytest.mark.parametrize("name", ["", "a/b/c/d", "x:", "..", "a/x:y:z"])
def test_impossible_name_asks_the_daemon(daemon: FakeDaemon, wherry: Wherry, name: str) -> None:
    """What can't be an artifact is wrong usage."""
    wherry("show", name, exit_code=2)
    assert daemon.calls == []
