"""``add_reference``: which entries a URI becomes."""

from __future__ import annotations

from pathlib import Path

import pytest

import wherry
from wherry import errors, folders


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for path in ("images/cat.png", "images/dog & co.png", "images/deep/100%41.png", "model.h5"):
        file = tmp_path / path
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text(path)
    return tmp_path


def make() -> wherry.Artifact:
    return wherry.Artifact("name", type="type")


def test_reference_is_named_otherwise(data: Path) -> None:
    """A file becomes one entry, a folder one for each file; a name comes in front, as in the table."""
    artifact = make()
    (entry,) = artifact.add_reference(f"file://{data}/model.h5")
    assert (entry.path, entry.size, entry.ref) == ("model.h5", 8, f"file://{data}/model.h5")
    assert entry.ref_target() == entry.ref
    artifact.add_reference(f"file://{data}/model.h5", name="models/my.h5")
    found = artifact.add_reference(f"file://{data}/images", name="images/")
    assert [each.path for each in found] == [
        "images/cat.png",
        "images/dog & co.png",
        "images/deep/100%41.png",
    ]
    assert len(artifact.add_reference(f"file://{data}/images/")) == 3
    assert len(artifact.manifest) == 8


@pytest.mark.parametrize("encoded", [True, False])
def test_folders_files_get_uris_that_lead_nowhere(data: Path, encoded: bool) -> None:
    """Each file's URI leads to it, whether the folder's URI was percent-encoded or not."""
    from wherry.references import locate

    folder = data / "with space"
    (data / "images").rename(folder)
    uri = folder.as_uri() if encoded else f"file://{folder}"
    artifact = make()
    for entry in artifact.add_reference(uri):
        assert locate(entry.ref_target())[0] == f"{folder}/{entry.path}"


def test_bad_uri_is_taken(data: Path) -> None:
    """What is no URI, is elsewhere, missing or no file raises, and nothing is added."""
    artifact = make()
    for uri, kind in {
        str(data): errors.BadURI,
        "file://elsewhere/x": errors.BadURI,
        "file://": errors.BadURI,
        "file:///nowhere": FileNotFoundError,
        "file:///dev/null": errors.NotAFile,
        "s3:///x": errors.BadURI,
        "https://example.org/": errors.BadURI,
        "https://me:pw@example.org/x": errors.BadURI,
    }.items():
        with pytest.raises(kind):
            artifact.add_reference(uri)
    with pytest.raises(errors.UsageError, match="more than 2 files; nothing was added"):
        artifact.add_reference(f"file://{data}/images", max_objects=2)
    assert len(artifact.manifest) == 0
    assert len(artifact.add_reference(f"file://{data}/images", max_objects=3)) == 3


def test_unchecked_reference_is_looked_at(data: Path) -> None:
    """``checksum=False`` records any URI as it is, as one entry of unknown size."""
    artifact = make()
    for uri, path in {
        "s3://bucket/dir/model%20x.h5?versionId=3": "model x.h5",
        "https://example.org/a/b/": "b",
        "file:///nowhere": "nowhere",
    }.items():
        (entry,) = artifact.add_reference(uri, checksum=False)
        assert (entry.path, entry.size, entry.ref, entry.digest) == (path, None, uri, None)
    assert artifact.add_reference("s3://b/dir", name="named", checksum=False)[0].path == "named"
    assert artifact.size == 0


def test_same_reference_twice(data: Path) -> None:
    """The same URI may be added again; another one under its path raises."""
    artifact = make()
    artifact.add_reference(f"file://{data}/model.h5")
    artifact.add_reference(f"file://{data}/model.h5")
    with pytest.raises(errors.PathTaken):
        artifact.add_reference(f"file://{data}/images/cat.png", name="model.h5")
    with pytest.raises(errors.PathTaken):
        artifact.add_file(data / "model.h5")
    artifact.add_file(data / "model.h5", overwrite=True)
    assert artifact.get_entry("model.h5").ref is None


def test_server_is_asked_at_the_call() -> None:
    """A URL is one entry; what a bucket's URI stands for is known after the commit. Nobody is asked yet."""
    artifact = make()
    (url,) = artifact.add_reference("https://example.org/a/b%20c.txt?x=1")
    assert (url.path, url.size, url.ref) == ("b c.txt", None, "https://example.org/a/b%20c.txt?x=1")
    (key,) = artifact.add_reference("s3://bucket/images")
    assert (key.path, key.ref) == ("images", "s3://bucket/images")
    assert artifact.add_reference("gs://bucket/") == []
    assert list(artifact.manifest.entries) == ["b c.txt"]
    with pytest.raises(errors.ArtifactNotLoggedError, match="wait"):
        _ = artifact.digest
    artifact.remove("images")
    with pytest.raises(errors.EntryMissing):
        artifact.remove("images")
    artifact.remove("b c.txt")


def test_file_that_vanishes_in_the_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that goes away while its folder is listed is an error of ours."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").touch()
    monkeypatch.setattr(folders, "files_below", lambda root: iter(["f", "gone"]))
    with pytest.raises(errors.FileMissing, match="d/gone"):
        wherry.Artifact("a", "t").add_reference(f"file://{tmp_path}/d")
