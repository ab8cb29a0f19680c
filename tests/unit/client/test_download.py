"""``download`` and its kin: the bytes that were logged, below the root and nowhere else."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import wherry
from tests.unit.client.recorder import Recorder, Refusal
from wherry import errors
from wherry.safe_root import SafeRoot
from wherry.wire import wherry_pb2 as pb


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def put(recorder: Recorder, files: dict[str, bytes], sent: dict[str, bytes] | None = None) -> None:
    """Let the daemon have version v0 of cats/data; ``sent`` is what it sends in place of ``files``."""
    recorder.versions = [
        pb.Version(
            project="cats",
            name="data",
            type="dataset",
            version=0,
            manifest=digest(b"manifest"),
            entries=len(files),
            aliases=["latest"],
            request_id="r",
            metadata=b"{}",
        )
    ]
    recorder.manifest = [
        pb.Entry(path=path, digest=digest(data), size=len(data)) for path, data in files.items()
    ]
    recorder.chunks = []
    for path, data in (files if sent is None else sent).items():
        pieces = [data[start : start + 1000] for start in range(0, len(data), 1000)] or [b""]
        recorder.chunks += [pb.FileChunk(data=piece) for piece in pieces]
        recorder.chunks[-len(pieces)].path = path
        recorder.chunks[-1].last = True


@pytest.fixture
def artifact(recorder: Recorder) -> wherry.Artifact:
    put(recorder, FILES)
    return wherry.Api({"project": "cats"}).artifact("data:v0")


FILES = {
    "a": b"",
    "deep/er/b": os.urandom(12_345),
    "deep/er/c": b"c",
    "deep/é x": b"d",
    "deepest": b"e",
}


def files_below(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_download_differs(artifact: wherry.Artifact, tmp_path: Path) -> None:
    """All files come, in folders as their paths say; the folder is named after the version."""
    folder = artifact.download()
    assert Path(folder) == Path("artifacts/data:v0")
    assert files_below(tmp_path / folder) == FILES
    assert artifact.download(root=tmp_path / "other") == str(tmp_path / "other")
    (tmp_path / "other" / "a").write_text("edited")
    (tmp_path / "other" / "deepest").unlink()
    (tmp_path / "other" / "deepest").symlink_to(tmp_path / "victim")
    artifact.download(root=tmp_path / "other")
    assert files_below(tmp_path / "other") == FILES
    assert not (tmp_path / "victim").exists()


def test_prefix_brings_the_rest(
    artifact: wherry.Artifact, recorder: Recorder, tmp_path: Path
) -> None:
    """A prefix, and a single entry, bring no more than they name, and ask for no more."""
    artifact.download("p", path_prefix="deep/")
    assert set(files_below(tmp_path / "p")) == {"deep/er/b", "deep/er/c", "deep/é x"}
    assert set(recorder.asked_files[0].paths) == {"deep/er/b", "deep/er/c", "deep/é x"}
    file = artifact.get_entry("deep/er/b").download("one")
    assert Path(file).read_bytes() == FILES["deep/er/b"]
    assert set(files_below(tmp_path / "one")) == {"deep/er/b"}
    assert artifact.download("none", path_prefix="nothing") == "none"
    assert len(recorder.asked_files) == 2


@pytest.mark.parametrize("sent", [b"other", b"c" * 1001, b""])
def test_damaged_bytes_are_written(recorder: Recorder, tmp_path: Path, sent: bytes) -> None:
    """Bytes that are not those that were logged are refused, and neither file nor trace is left."""
    put(recorder, {"a": b"a", "c": b"c"}, {"a": b"a", "c": sent})
    artifact = wherry.Api({"project": "cats"}).artifact("data")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "c").write_bytes(b"mine")
    with pytest.raises(errors.StoreDamaged, match="'c'"):
        artifact.download("root")
    assert files_below(tmp_path / "root") == {"a": b"a", "c": b"mine"}


@pytest.mark.parametrize(
    "path", ["../out", "/tmp/wherry-out", "a/../../out", "x//y", "./x", "nul\0", "x/"]
)
def test_hostile_path_leads_out(recorder: Recorder, tmp_path: Path, path: str) -> None:
    """Paths of a store that lead out of the root, or could, are refused."""
    put(recorder, {path: b"evil"})
    with pytest.raises(errors.BadPath):
        wherry.Api({"project": "cats"}).artifact("data").download("root")
    assert {p.name for p in tmp_path.rglob("*")} <= {"root", "a", "x"}
    assert not Path("/tmp/wherry-out").exists()


def test_link_in_the_root_is_followed(artifact: wherry.Artifact, tmp_path: Path) -> None:
    """A symbolic link to a folder inside the root is not written through; the root may be a link."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "deep").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(errors.BadPath, match="root/deep is a symbolic link"):
        artifact.download("root")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    artifact.download("link")
    assert files_below(tmp_path / "elsewhere") == FILES


def test_file_in_the_way_is_a_riddle(artifact: wherry.Artifact, tmp_path: Path) -> None:
    """A file where a folder is needed, and the other way round, are named."""
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "deep").write_text("file")
    with pytest.raises(errors.DownloadError, match="root/deep"):
        artifact.download("root")
    (tmp_path / "other" / "a").mkdir(parents=True)
    with pytest.raises(errors.DownloadError, match="other/a"):
        artifact.download("other")
    with pytest.raises(errors.DownloadError, match="root/deep"):
        artifact.download("root/deep/er")


def test_cut_stream_begins_again(
    artifact: wherry.Artifact, recorder: Recorder, tmp_path: Path
) -> None:
    """Where the daemon ends in the middle, the rest is asked of the next one."""
    whole = recorder.read_files
    calls: list[int] = []

    def cut(request: pb.ReadFilesRequest) -> object:
        calls.append(1)
        for number, chunk in enumerate(whole(request)):
            if len(calls) < 3 and number == 5 * len(calls):
                raise Refusal("ConnectionLost")
            yield chunk

    recorder.read_files = cut  # type: ignore[method-assign,assignment] # a daemon that dies twice
    artifact.download("root")
    assert files_below(tmp_path / "root") == FILES
    assert len(calls) == 3


@pytest.mark.parametrize("call", ["list_versions", "read_manifest"])
def test_list_is_cut_short(recorder: Recorder, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Where the daemon ends in a list of versions or a manifest, all of it is asked of the next one."""
    put(recorder, {"a": b"a", "b": b"b"})
    recorder.versions = [*recorder.versions, *recorder.versions]
    whole, calls = getattr(recorder, call), list[int]()

    def cut(request: object) -> Iterator[object]:
        calls.append(1)
        for answer in whole(request):
            yield answer
            if len(calls) < 3:
                raise Refusal("ConnectionLost")

    monkeypatch.setattr(recorder, call, cut)
    versions = wherry.Api({"project": "cats"}).artifacts(None, "data")
    assert len(versions) == 2
    assert list(versions[0].manifest.entries) == ["a", "b"]
    assert len(calls) == 3


def test_daemon_that_sends_too_little(recorder: Recorder) -> None:
    """A stream that ends well without a file that was asked for is an error."""
    put(recorder, {"a": b"a", "b": b"b"}, {"a": b"a"})
    with pytest.raises(errors.ProtocolError, match="did not send 1 files"):
        wherry.Api({"project": "cats"}).artifact("data").download("root")


# ── references ─────────────────────────────────────────────────────────────────────────────────
def _refer(recorder: Recorder, uri: str, was: bytes | None) -> wherry.Artifact:
    put(recorder, {"plain": b"p"})
    entry = pb.Entry(path="ref", reference=pb.Reference(uri=uri))
    if was is not None:
        entry.digest, entry.size = digest(was), len(was)
    recorder.manifest.append(entry)
    recorder.chunks.append(pb.FileChunk(path="ref", last=True))
    recorder.versions[0].entries = 2
    return wherry.Api({"project": "cats"}).artifact("data")


def test_reference_is_not_fetched(recorder: Recorder, tmp_path: Path) -> None:
    """``file://`` references are copied, if the file is what it was."""
    (tmp_path / "a file").write_bytes(b"data")
    artifact = _refer(recorder, (tmp_path / "a file").as_uri(), b"data")
    artifact.download("root")
    assert files_below(tmp_path / "root") == {"plain": b"p", "ref": b"data"}
    assert artifact.get_entry("ref").ref_target() == (tmp_path / "a file").as_uri()
    assert Path(artifact.get_entry("ref").download("alone")).read_bytes() == b"data"
    artifact.download("some", path_prefix="")
    artifact.download("skipped", path_prefix="", skip_cache=True)
    assert files_below(tmp_path / "some") == files_below(tmp_path / "skipped")
    assert files_below(tmp_path / "some") == {"plain": b"p", "ref": b"data"}
    (tmp_path / "a file").write_bytes(b"else")
    with pytest.raises(errors.ReferenceFailed, match="has changed"):
        artifact.download("again")
    (tmp_path / "a file").unlink()
    with pytest.raises(errors.ReferenceFailed, match="allow_missing_references"):
        artifact.download("again")
    artifact.download("again", allow_missing_references=True)
    assert files_below(tmp_path / "again") == {"plain": b"p"}


def test_damaged_reference_is_written(recorder: Recorder, tmp_path: Path) -> None:
    """A reference whose bytes have another checksum than was recorded is not written."""
    artifact = _refer(recorder, "s3://bucket/ref", b"data")
    recorder.manifest[-1].reference.sums.append(f"md5:{hashlib.md5(b'data').hexdigest()}")
    recorder.read_references = lambda _: iter(  # type: ignore[attr-defined]
        [pb.FileChunk(path="ref", data=b"dat"), pb.FileChunk(data=b"E", last=True)]
    )
    with pytest.raises(
        errors.ReferenceFailed, match=r"s3://bucket/ref has changed .*: its md5 was"
    ):
        artifact.download("root")
    artifact.download("root", allow_missing_references=True)
    assert files_below(tmp_path / "root") == {"plain": b"p"}


def test_unchecked_reference_is_compared(recorder: Recorder, tmp_path: Path) -> None:
    """A reference without a checksum is copied as it is."""
    (tmp_path / "f").write_bytes(b"whatever")
    _refer(recorder, f"file://{tmp_path}/f", None).download("root")
    assert (tmp_path / "root" / "ref").read_bytes() == b"whatever"


# ── the folder afterwards ──────────────────────────────────────────────────────────────────────
def test_verify_finds_nothing(artifact: wherry.Artifact, tmp_path: Path) -> None:
    """``verify`` names a file that differs, is missing or is too many."""
    artifact.download("root")
    artifact.verify("root")
    (tmp_path / "root" / "deepest").write_bytes(b"E")
    with pytest.raises(ValueError, match="root/deepest differs"):
        artifact.verify("root")
    (tmp_path / "root" / "deepest").unlink()
    with pytest.raises(errors.NotAsLogged, match="has no 'deepest'"):
        artifact.verify("root")
    artifact.download("root")
    (tmp_path / "root" / "more").write_text("x")
    with pytest.raises(errors.NotAsLogged, match="'more', which is no entry"):
        artifact.verify("root")


def test_checkout_leaves_others(artifact: wherry.Artifact, tmp_path: Path) -> None:
    """``checkout`` leaves exactly the version's files; nothing outside is touched."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "mine").write_text("x")
    (tmp_path / "root" / "old").mkdir(parents=True)
    (tmp_path / "root" / "old" / "file").write_text("x")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "outside")
    artifact.checkout("root")
    assert files_below(tmp_path / "root") == FILES
    assert not (tmp_path / "root" / "old").exists()
    assert not (tmp_path / "root" / "link").is_symlink()
    assert (tmp_path / "outside" / "mine").exists()
    artifact.verify("root")
    assert artifact.checkout() == "./artifacts/data", "one folder for all versions, as W&B's"


def test_single_file_is_not_found(recorder: Recorder, tmp_path: Path) -> None:
    """``file`` downloads the only file; with several it says to use ``download``."""
    put(recorder, {"dir/only": b"1"})
    artifact = wherry.Api({"project": "cats"}).artifact("data")
    assert Path(artifact.file("root")).read_bytes() == b"1"
    run = wherry.init(project="cats")
    assert Path(run.use_model("data:v0")).read_bytes() == b"1"
    put(recorder, FILES)
    with pytest.raises(ValueError, match="5 files"):
        wherry.Api({"project": "cats"}).artifact("data").file()


# ── Api ────────────────────────────────────────────────────────────────────────────────────────
def test_api_finds_other_things(artifact: wherry.Artifact, recorder: Recorder) -> None:
    """``Api`` finds versions by every form of the name, lists them, and tells what is there."""
    api = wherry.Api({"project": "cats", "entity": "me"})
    for name in ("data", "data:latest", "data:v0", "cats/data:v0", "me/cats/data"):
        assert api.artifact(name).name == "data:v0"
    found = api.artifact("data", type="dataset")
    assert found.files(names=["a"])[0].digest == digest(b"")
    assert [entry.path for entry in found.files()] == list(FILES)
    assert found.file_count == len(FILES)
    assert found.get_entry("deepest").local_path is None
    more = pb.Version()
    more.CopyFrom(recorder.versions[0])
    more.version = 1
    more.tags.append("t")
    recorder.versions.append(more)
    assert [each.version for each in api.artifacts("dataset", "cats/data")] == ["v1", "v0"]
    assert [each.version for each in api.artifacts("dataset", "data", tags=["t"])] == ["v1"]
    assert api.artifact_exists("data:v1") and not api.artifact_exists("data:v7")
    assert not api.artifact_exists("data:v1", type="model")
    assert api.artifact_collection_exists("data", "dataset")
    assert not api.artifact_collection_exists("nothing", "dataset")
    with pytest.raises(errors.NotFoundError):
        len(api.artifacts("dataset", "nothing"))


def test_two_downloads_take_each_others_files(artifact: wherry.Artifact, tmp_path: Path) -> None:
    """What a killed download left goes with the next one; the file that a living one writes stays, and
    neither is in the way of ``verify``.
    """
    root = tmp_path / "root"
    left = root / "deep" / f".wherry-{'0' * 24}"
    with SafeRoot(str(root)) as living, living.create("deep/mine") as opened:
        left.touch()
        artifact.download(root)
        artifact.verify(root)
        assert not left.exists()
        os.write(opened, b"mine")
    assert (root / "deep/mine").read_bytes() == b"mine"


def test_disk_raises_its_own(
    artifact: wherry.Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can't be read or removed is an error of ours that names it."""

    def refuse(path: object, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with pytest.raises(errors.DownloadError, match="NUL"):
        artifact.download("a\0b")
    artifact.download("root")
    (tmp_path / "root" / "more").touch()
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        with pytest.raises(errors.DownloadError, match="root/more does not belong there"):
            artifact.checkout("root")
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", lambda file, _: refuse(file.name))
        with pytest.raises(errors.FileUnreadable, match="can't be read: Permission denied"):
            artifact.verify("root")


def test_mode_is_not_the_programs(artifact: wherry.Artifact, tmp_path: Path) -> None:
    """Files get the mode that the program's umask gives; none is kept in an artifact."""
    before = os.umask(0o027)
    try:
        artifact.download("root")
    finally:
        os.umask(before)
    modes = {
        path.stat().st_mode & 0o777 for path in (tmp_path / "root").rglob("*") if path.is_file()
    }
    assert modes == {0o640}
