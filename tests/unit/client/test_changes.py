"""Artifacts that change a version: what stays, what goes to the daemon, what can be looked at before."""

from __future__ import annotations

from pathlib import Path

import pytest

import wherry
from tests.unit.client.recorder import Recorder
from tests.unit.client.test_download import put
from wherry import errors
from wherry.wire import wherry_pb2 as pb

FILES = {"a": b"1", "dir/b": b"22", "dir/c": b"333"}


@pytest.fixture
def draft(recorder: Recorder) -> wherry.Artifact:
    put(recorder, FILES)
    reference = pb.Reference(uri="s3://b/far", checksum=True, version="v")
    recorder.manifest.append(pb.Entry(path="far", digest="etag:1", size=9, reference=reference))
    recorder.versions[0].entries = len(recorder.manifest)
    recorder.versions[0].description, recorder.versions[0].metadata = "old", b'{"a":[1]}'
    return wherry.Api({"project": "cats"}).artifact("data:v0").new_draft()


def log(artifact: wherry.Artifact) -> None:
    """Log it to the project that it is of."""
    wherry.init(project="cats").log_artifact(artifact)


def removed_by(recorder: Recorder) -> list[str]:
    """What the only request takes out."""
    (logged,) = recorder.logged
    return recorder.removed[logged.header.request_id]


def test_what_stays_is_sent(draft: wherry.Artifact, recorder: Recorder, tmp_path: Path) -> None:
    """The daemon gets the version's manifest, what was added or replaced, and what is taken out."""
    (tmp_path / "new").write_text("new")
    draft.add_file(tmp_path / "new", "a", overwrite=True)
    draft.add_file(tmp_path / "new", "dir/d")
    draft.remove("dir/b")
    log(draft)
    (logged,) = recorder.logged
    base = logged.header.base
    assert (base.project, base.version, base.manifest) == (
        "cats",
        0,
        recorder.versions[0].manifest,
    )
    assert (logged.paths, removed_by(recorder)) == (["a", "dir/d"], ["dir/b"])
    assert (logged.header.description, logged.header.metadata) == ("old", b'{"a":[1]}')


def test_a_big_draft_is_sent_in_one_message(draft: wherry.Artifact, recorder: Recorder) -> None:
    """What is more than a message holds goes in batches, removed paths as well."""
    for n in range(100):
        with draft.new_file(f"more/{n}") as file:
            file.write(str(n))
    draft.remove("dir")
    log(draft)
    (logged,) = recorder.logged
    assert len(logged.entries) == 100 and removed_by(recorder) == ["dir/b", "dir/c"]


def test_a_draft_shares_what_its_version_has(draft: wherry.Artifact) -> None:
    """A draft's description and metadata are its own, and so are its entries."""
    found = wherry.Api({"project": "cats"}).artifact("data:v0")
    draft.metadata["a"] = 2
    draft.remove("a")
    assert found.metadata == {"a": [1]} and "a" in found.manifest.entries
    assert (draft.state, draft.incremental, draft.description) == ("PENDING", False, "old")
    assert found.new_draft().manifest.entries.keys() == found.manifest.entries.keys()


def test_a_draft_shows_something_else(draft: wherry.Artifact, tmp_path: Path) -> None:
    """Entries, sizes, digests and bytes can be had before it is logged, of what stays and what is new."""
    with draft.new_file("dir/d") as file:
        file.write("4444")
    draft.remove("dir/b")
    assert [entry.path for entry in draft.files()] == ["a", "dir/c", "dir/d", "far"]
    assert draft.size == 1 + 3 + 4 + 9 and draft.file_count == 4
    far = draft.get_entry("far")
    assert (far.ref, far.digest, far.version_id, far.size) == ("s3://b/far", "etag:1", "v", 9)
    assert draft.digest.startswith("sha256:")
    before = draft.digest
    draft.remove("far")
    assert draft.digest != before
    folder = Path(draft.download(tmp_path / "there"))
    files = [file for file in folder.rglob("*") if file.is_file()]
    there = {str(file.relative_to(folder)): file.read_bytes() for file in files}
    assert there == {"a": b"1", "dir/c": b"333", "dir/d": b"4444"}
    one = draft.get_entry("dir/c").download(str(tmp_path / "one"))
    assert Path(one).read_bytes() == b"333"


def test_a_table_that_stays_is_lost(recorder: Recorder) -> None:
    """A table that stays can be read before the draft is logged, and one in its place as well."""
    made = wherry.Artifact("data", "dataset")
    made.add(wherry.Table(["a"], [[1]]), "t")
    (there,) = made.hold(["t.table.json"])
    with there.open() as opened:
        put(recorder, {"t.table.json": opened.read()})
    draft = wherry.Api({"project": "cats"}).artifact("data:v0").new_draft()
    table = draft.get("t")
    assert isinstance(table, wherry.Table) and [row for _, row in table.iterrows()] == [[1]]
    draft.add(wherry.Table(["a"], [[1]]), "t")
    draft.add(wherry.Table(["a"], [[2]]), "t", overwrite=True)
    table = draft.get("t")
    assert isinstance(table, wherry.Table) and [row for _, row in table.iterrows()] == [[2]]


def test_a_path_is_taken_by_what_stays(draft: wherry.Artifact, tmp_path: Path) -> None:
    """What stays holds its path: the same bytes are fine, others need overwrite or remove."""
    (tmp_path / "same").write_bytes(b"22")
    draft.add_file(tmp_path / "same", "dir/b")
    with pytest.raises(errors.PathTaken):
        draft.add_file(tmp_path / "same", "a")
    with pytest.raises(errors.PathTaken):
        draft.add_file(tmp_path / "same", "far")
    with pytest.raises(errors.PathTaken):
        draft.add_reference("https://h/x", name="far")
    with pytest.raises(errors.EntryMissing):
        draft.remove("nothing")
    with pytest.raises(errors.PathTaken):
        with draft.new_file("a/below") as file:
            file.write("x")
        log(draft)


def test_a_reference_that_stays_is_never_looked_at_again(
    draft: wherry.Artifact, recorder: Recorder, tmp_path: Path
) -> None:
    """Adding the same reference once more lets the daemon ask its server anew."""
    local = tmp_path / "local"
    local.write_text("x")
    recorder.manifest.append(
        pb.Entry(
            path="local", digest="sha256:" + "0" * 64, reference=pb.Reference(uri=local.as_uri())
        )
    )
    again = wherry.Api({"project": "cats"}).artifact("data:v0").new_draft()
    again.add_reference(local.as_uri())
    log(again)
    assert recorder.logged[0].paths == ["local"] and removed_by(recorder) == []


def test_what_a_lookup_leads_to_replaces_what_was_removed(
    draft: wherry.Artifact, recorder: Recorder
) -> None:
    """What was removed, and is looked up anew, is taken out: else it would be as what stays to the daemon."""
    draft.remove("far")
    draft.add_reference("https://h/x", name="far")
    log(draft)
    assert recorder.logged[0].paths == [] and removed_by(recorder) == ["far"]


def test_keys_of_a_bucket_have_no_draft(recorder: Recorder, tmp_path: Path) -> None:
    """An object of a bucket may be called as others' folder; what is added may not."""
    put(recorder, {})
    for path in ("data", "data/x"):
        reference = pb.Reference(uri=f"s3://b/{path}", checksum=True)
        recorder.manifest.append(pb.Entry(path=path, digest="etag:1", size=1, reference=reference))
    recorder.versions[0].entries = 2
    found = wherry.Api({"project": "cats"}).artifact("data:v0")
    draft = found.new_draft()
    draft.remove("data/x")
    log(draft)
    assert removed_by(recorder) == ["data/x"]
    draft = found.new_draft()
    (tmp_path / "y").touch()
    draft.add_file(tmp_path / "y", "data/y")
    with pytest.raises(errors.PathTaken, match="data/y"):
        log(draft)


def test_a_deleted_version_has_a_draft(recorder: Recorder) -> None:
    """A version that this program has deleted is not there to be changed."""
    put(recorder, FILES)
    found = wherry.Api({"project": "cats"}).artifact("data:v0")
    found.delete()
    with pytest.raises(errors.ArtifactStateError, match="was deleted"):
        found.new_draft()


def test_a_bucket_below_a_folder_is_kept(recorder: Recorder) -> None:
    """A folder is removed with the references in it that nobody has looked up; a bad path removes nothing."""
    made = wherry.Artifact("data", "dataset", incremental=True)
    for name in ("dir/deep", "dir", "dir-2", "x"):
        made.add_reference(f"s3://bucket/{name}", name=name)
    with pytest.raises(errors.BadPath):
        made.remove("x/.")
    made.remove("dir")
    log(made)
    names = [each.name for each in recorder.lookups[recorder.logged[0].header.request_id]]
    assert names == ["dir-2", "x"] and removed_by(recorder) == ["dir"]


def test_changes_are_part_of_a_distributed_draft(draft: wherry.Artifact) -> None:
    """What changes a version is neither upserted, nor finishes a draft; it can be logged all the same."""
    run = wherry.init(project="cats", group="g")
    for changes in (draft, wherry.Artifact("data", "dataset", incremental=True)):
        for call in (run.upsert_artifact, run.finish_artifact):
            with pytest.raises(errors.UsageError, match="log_artifact"):
                call(changes)
        run.log_artifact(changes)


def test_an_incremental_artifact_asks_for_its_base(recorder: Recorder) -> None:
    """It is changes to whatever will be there: nothing is read, nothing it removes has to be there."""
    made = wherry.Artifact("data", "dataset", incremental=True)
    with made.new_file("x") as file:
        file.write("x")
    made.remove("nothing")
    made.remove("dir/")
    made.remove("x")
    with made.new_file("x") as file:
        file.write("y")
    assert made.incremental and list(made.manifest.entries) == ["x"]
    with pytest.raises(errors.ArtifactNotLoggedError, match="is known when it is a version"):
        _ = made.digest
    with pytest.raises(errors.ArtifactNotLoggedError):
        made.download()
    with pytest.raises(errors.BadPath):
        made.remove("../x")
    log(made)
    (logged,) = recorder.logged
    assert logged.header.HasField("base") and logged.header.base == pb.Base()
    assert (logged.paths, removed_by(recorder)) == (["x"], ["dir", "nothing", "x"])


def test_an_incremental_version_shows_its_changes_only(recorder: Recorder) -> None:
    """Once it is a version, it shows what that has."""
    made = wherry.Artifact("data", "dataset", incremental=True)
    with made.new_file("x") as file:
        file.write("x")
    log(made)
    recorder.manifest = [pb.Entry(path=path, digest="sha256:" + "0" * 64) for path in ("a", "x")]
    recorder.commit(0, 1)
    recorder.versions[-1].size, recorder.versions[-1].entries = 7, 2
    assert list(made.manifest.entries) == ["a", "x"] and made.incremental
    assert (made.size, made.file_count) == (7, 2) and made.digest == recorder.versions[-1].digest


def test_nothing_is_a_base_in_disabled_mode() -> None:
    """In disabled mode a draft is an empty Artifact of the same name."""
    run = wherry.init(project="cats", mode="disabled")
    made = wherry.Artifact("data", "dataset", metadata={"a": 1}, incremental=True)
    made.remove("x")
    logged = run.log_artifact(made)
    draft = logged.new_draft()
    assert (draft.name, draft.metadata, draft.is_draft()) == ("data", {"a": 1}, True)
    run.log_artifact(draft)


def test_what_was_not_logged_has_a_draft() -> None:
    """There is no draft of what is none but itself."""
    with pytest.raises(errors.ArtifactNotLoggedError):
        wherry.Artifact("data", "dataset").new_draft()
