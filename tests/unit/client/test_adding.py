"""What ``add_file``, ``add_dir``, ``new_file`` and ``remove`` make of a project's files."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

import wherry
from wherry import errors
from wherry.wire import places


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project folder of the page "Create an artifact"; it is the working folder too."""
    for path in ("images/cat.png", "images/dog.png", "checkpoints/model.h5", "model.h5"):
        file = tmp_path / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(path)
    return tmp_path


def make() -> wherry.Artifact:
    return wherry.Artifact("name", type="type")


def content(artifact: wherry.Artifact, path: str) -> bytes:
    """Read an entry's captured bytes back."""
    from wherry.capture import read_captured

    contents = artifact._life.contents
    assert contents is not None
    row = contents.table.get(path)
    assert row is not None
    return b"".join(read_captured(contents.spool, row))


# ── the page's tables ──────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("local", "name", "path"),
    [
        ("model.h5", None, "model.h5"),
        ("checkpoints/model.h5", None, "model.h5"),
        ("model.h5", "models/mymodel.h5", "models/mymodel.h5"),
    ],
)
def test_add_file_names_entries_otherwise_than_the_page(
    project: Path, local: str, name: str | None, path: str
) -> None:
    """A file is added under its own name, or under the one that is given."""
    artifact = make()
    entry = artifact.add_file(local, name=name)
    assert list(artifact.manifest.entries) == [entry.path] == [path]
    assert content(artifact, path).decode() == local


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        (None, ["cat.png", "dog.png"]),
        ("images", ["images/cat.png", "images/dog.png"]),
        ("images/", ["images/cat.png", "images/dog.png"]),
        (".", ["cat.png", "dog.png"]),
    ],
)
def test_add_dir_names_entries_otherwise_than_the_page(
    project: Path, name: str | None, paths: list[str]
) -> None:
    """A folder's files are added under their paths below it, with the name before them."""
    artifact = make()
    artifact.add_dir("images", name=name)
    assert list(artifact.manifest.entries) == paths
    assert content(artifact, paths[0]).decode() == "images/cat.png"


def test_new_file_names_its_entry_otherwise_than_the_page() -> None:
    """A new file is added under its name."""
    artifact = make()
    with artifact.new_file("hello.txt") as file:
        file.write("hello")
    assert list(artifact.manifest.entries) == ["hello.txt"]
    assert content(artifact, "hello.txt") == b"hello"


# ── files ──────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_captured_bytes_differ_from_the_file(tmp_path: Path, size: int) -> None:
    """A file of any size is captured byte by byte, whether it shares a spool file or has its own."""
    data = os.urandom(size)
    (tmp_path / "f").write_bytes(data)
    artifact = make()
    entry = artifact.add_file("f")
    (tmp_path / "f").unlink()
    assert content(artifact, "f") == data
    assert (entry.size, artifact.size) == (size, size)


def test_many_files_take_many_inodes(home: Path, tmp_path: Path) -> None:
    """Small files share one spool file, which begins anew before it grows too long."""
    (tmp_path / "d").mkdir()
    for number in range(100):
        (tmp_path / "d" / f"{number:02}").write_bytes(bytes([number]) * 700_000)
    artifact = make()
    artifact.add_dir("d")
    spooled = [path for path in (home / places.SESSIONS).rglob("*") if path.is_file()]
    assert len([path for path in spooled if path.name != "lock"]) == 2
    for number in range(100):
        assert content(artifact, f"{number:02}") == bytes([number]) * 700_000


def test_holes_take_disk(home: Path, tmp_path: Path) -> None:
    """The holes of a sparse file stay holes in the spool, at its beginning, middle and end."""
    size = 1 << 30
    with (tmp_path / "sparse").open("wb") as file:
        file.seek(size // 2)
        file.write(b"middle")
        file.truncate(size)
    artifact = make()
    artifact.add_file("sparse")
    (spooled,) = [p for p in (home / places.SESSIONS).rglob("*") if p.stat().st_size == size]
    assert spooled.stat().st_blocks * 512 < 1 << 20
    with spooled.open("rb") as file:
        file.seek(size // 2 - 1)
        assert file.read(8) == b"\0middle\0"


@pytest.mark.parametrize("name", ["with space", "é", "e\u0301", "n" * 255, "a\nb", "日本"])
def test_names_are_not_kept(tmp_path: Path, name: str) -> None:
    """Names are kept as they are, Unicode form and all."""
    name = name.encode()[:255].decode()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / name).write_text("x")
    artifact = make()
    artifact.add_dir("d")
    artifact.add_file(tmp_path / "d" / name, name=f"again/{name}")
    assert set(artifact.manifest.entries) == {name, f"again/{name}"}


def test_two_unicode_forms_become_one(tmp_path: Path) -> None:
    """Two names that differ in Unicode form only are two entries."""
    (tmp_path / "é").write_text("composed")
    (tmp_path / "e\u0301").write_text("decomposed")
    artifact = make()
    artifact.add_dir(tmp_path)
    assert content(artifact, "é") == b"composed"
    assert content(artifact, "e\u0301") == b"decomposed"


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a//b", "a/../b", "a/./b", "x/", "nul\0", "", "\udcff"]
)
def test_hostile_path_is_taken(tmp_path: Path, name: str) -> None:
    """A path that is not relative, plain POSIX raises, and nothing is added."""
    (tmp_path / "f").write_text("x")
    artifact = make()
    with pytest.raises(errors.BadPath):
        artifact.add_file("f", name=name)
    with pytest.raises(errors.BadPath), artifact.new_file(name):
        pass
    assert len(artifact.manifest) == 0


# ── what is no file ────────────────────────────────────────────────────────────────────────────
def test_missing_file_is_added() -> None:
    """A missing file raises at the call, as the FileNotFoundError that ports catch."""
    with pytest.raises(FileNotFoundError, match=r"no file .*/missing") as raised:
        make().add_file("missing")
    assert isinstance(raised.value, errors.FileMissing)


def test_folder_is_added_as_file(tmp_path: Path) -> None:
    """A folder where a file is wanted, and the other way round, says which call to use."""
    (tmp_path / "f").write_text("x")
    with pytest.raises(errors.NotAFile, match="add_dir"):
        make().add_file(tmp_path)
    with pytest.raises(ValueError, match="add_file"):
        make().add_dir("f")
    with pytest.raises(errors.FileMissing, match="missing"):
        make().add_dir("missing")


def test_fifo_blocks_the_call(tmp_path: Path) -> None:
    """FIFOs, sockets and devices raise at once, by whichever call, and are named."""
    (tmp_path / "d" / "deep").mkdir(parents=True)
    os.mkfifo(tmp_path / "d" / "deep" / "pipe")
    with pytest.raises(errors.NotAFile, match="deep/pipe is a FIFO"):
        make().add_dir("d")
    with pytest.raises(errors.NotAFile, match="deep/pipe is a FIFO"):
        make().add_file("d/deep/pipe")
    with pytest.raises(errors.NotAFile, match="deep/pipe is a FIFO"):
        make().add_file("d/deep/pipe", is_tmp=True)
    with pytest.raises(errors.NotAFile, match="/dev/null is a device"):
        make().add_file("/dev/null")
    (tmp_path / "s").mkdir()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind("s/socket")
    with pytest.raises(errors.NotAFile, match="s/socket is a socket"):
        make().add_dir("s")
    with pytest.raises(errors.NotAFile, match="s/socket is a socket"):
        make().add_file("s/socket")
    listening.close()


def test_symlinks_are_not_followed(project: Path) -> None:
    """Symbolic links are followed, to files and to folders, by every call."""
    (project / "links").mkdir()
    (project / "links" / "file").symlink_to("../model.h5")
    (project / "links" / "folder").symlink_to(project / "images")
    (project / "to-links").symlink_to("links")
    artifact = make()
    artifact.add_dir("to-links")
    artifact.add_file("links/file", name="alone", policy="immutable")
    assert list(artifact.manifest.entries) == ["alone", "file", "folder/cat.png", "folder/dog.png"]
    assert content(artifact, "file") == content(artifact, "alone") == b"model.h5"


def test_symlink_circle_never_ends(project: Path) -> None:
    """A link that leads back to a folder above it is refused, and named."""
    (project / "images" / "up").symlink_to("..")
    with pytest.raises(errors.NotAFile, match=r"images/up leads back to"):
        make().add_dir(project)
    (project / "images" / "up").unlink()
    (project / "images" / "up").symlink_to(project.parent)
    with pytest.raises(errors.NotAFile, match=r"images/up leads back to"):
        make().add_dir(project)
    (project / "self").symlink_to("self")
    with pytest.raises(errors.FileUnreadable, match="self"):
        make().add_file("self")


def test_dangling_link_is_left_out(project: Path) -> None:
    """A link to nothing is an error that names the link and where it points."""
    (project / "images" / "gone").symlink_to("/nowhere/at/all")
    with pytest.raises(errors.FileMissing, match=r"images/gone .*nothing: /nowhere/at/all"):
        make().add_dir("images")


def test_name_that_is_not_utf8_is_mangled(tmp_path: Path) -> None:
    """A file whose name is not UTF-8 raises in ``add_dir``; with a name of its own it can be added."""
    (tmp_path / "d").mkdir()
    raw = os.fsencode(tmp_path / "d") + b"/\xff"
    with open(raw, "wb") as file:
        file.write(b"x")
    artifact = make()
    with pytest.raises(errors.BadPath, match=r"\\xff"):
        artifact.add_dir("d")
    with pytest.raises(errors.BadPath):
        artifact.add_file(raw)  # type: ignore[arg-type] # bytes are no part of the signature
    artifact.add_file(os.fsdecode(raw), name="named")
    assert content(artifact, "named") == b"x"


def test_failed_add_dir_leaves_a_part(project: Path, home: Path) -> None:
    """An ``add_dir`` that raises adds nothing, gives its spool space back, and may be called again."""
    (project / "images" / "big").write_bytes(b"b" * (2 << 20))
    (project / "images" / "zzz").symlink_to("/nowhere")
    artifact = make()
    artifact.add_file("model.h5")
    with pytest.raises(errors.FileMissing):
        artifact.add_dir("images")
    assert list(artifact.manifest.entries) == ["model.h5"]
    spooled = [path for path in (home / places.SESSIONS).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in spooled) == len("model.h5")
    (project / "images" / "zzz").unlink()
    artifact.add_dir("images")
    assert content(artifact, "cat.png") == b"images/cat.png"
    assert content(artifact, "model.h5") == b"model.h5"


def test_empty_folders_are_kept(project: Path) -> None:
    """Empty folders leave no trace; an artifact of nothing is one."""
    (project / "images" / "empty" / "deeper").mkdir(parents=True)
    artifact = make()
    artifact.add_dir("images/empty")
    assert len(artifact.manifest) == 0
    assert artifact.digest.startswith("sha256:")


# ── paths that are taken ───────────────────────────────────────────────────────────────────────
def test_second_file_replaces_the_first(project: Path) -> None:
    """Another file under a path that is taken raises, by whichever call, and changes nothing."""
    artifact = make()
    artifact.add_file("model.h5")
    with pytest.raises(ValueError, match=r"model\.h5") as raised:
        artifact.add_file("checkpoints/model.h5")
    assert isinstance(raised.value, errors.PathTaken)
    with pytest.raises(errors.PathTaken):
        artifact.add_dir("checkpoints")
    with pytest.raises(errors.PathTaken), artifact.new_file("model.h5") as file:
        file.write("new")
    with pytest.raises(errors.PathTaken):
        artifact.add_reference((project / "model.h5").as_uri())
    assert content(artifact, "model.h5") == b"model.h5"


def test_unchanged_file_is_refused(project: Path) -> None:
    """The same unchanged file may be added again, by whichever call."""
    artifact = make()
    first = artifact.add_file("images/cat.png")
    assert artifact.add_file("images/cat.png").path == first.path
    artifact.add_dir("images")
    artifact.add_dir("images")
    artifact.add_file("model.h5", name="kept", policy="immutable")
    artifact.add_file("model.h5", name="kept", policy="immutable")
    assert list(artifact.manifest.entries) == ["cat.png", "dog.png", "kept"]


def test_change_within_a_time_stamp_goes_unseen(project: Path) -> None:
    """A file that changed is another file, though its size and its time stamps are the same."""
    artifact = make()
    seen = os.stat("model.h5")
    artifact.add_file("model.h5")
    Path("model.h5").write_text("MODEL.H5")
    os.utime("model.h5", ns=(seen.st_atime_ns, seen.st_mtime_ns))
    with pytest.raises(errors.PathTaken):
        artifact.add_file("model.h5")


def test_overwrite_keeps_the_old_bytes(project: Path, home: Path) -> None:
    """``overwrite``, ``merge`` and mode "w" replace an entry; a spool file of its own is given back."""
    Path("big").write_bytes(b"1" * (1 << 20))
    artifact = make()
    artifact.add_file("big", name="a")
    artifact.add_file("model.h5", name="a", overwrite=True)
    assert content(artifact, "a") == b"model.h5"
    assert not [p for p in (home / places.SESSIONS).rglob("*") if p.stat().st_size == 1 << 20]
    artifact.add_file("model.h5", name="cat.png")
    artifact.add_dir("images", merge=True)
    assert content(artifact, "cat.png") == b"images/cat.png"
    with artifact.new_file("a", mode="wb") as file:
        file.write(b"third")
    assert content(artifact, "a") == b"third"
    assert content(artifact, "dog.png") == b"images/dog.png"


def test_removed_entry_stays(project: Path) -> None:
    """``remove`` takes an entry or a folder out, and its path is free again."""
    artifact = make()
    artifact.add_dir("images", name="images")
    entry = artifact.add_file("model.h5")
    artifact.remove(entry)
    artifact.remove("images")
    assert len(artifact.manifest) == 0
    artifact.add_file("checkpoints/model.h5")
    assert content(artifact, "model.h5") == b"checkpoints/model.h5"
    with pytest.raises(FileNotFoundError):
        artifact.remove("images")


# ── entries ────────────────────────────────────────────────────────────────────────────────────
def test_entry_says_too_little(project: Path) -> None:
    """An entry tells path, size, file and, when asked, the digest, before anything is logged."""
    artifact = make()
    entry = artifact.add_file("model.h5", name="m")
    assert (entry.path, entry.size, entry.ref, entry.extra) == ("m", 8, None, {})
    assert entry.local_path == str(project / "model.h5")
    assert entry.digest == f"sha256:{_sha256(b'model.h5')}"
    with pytest.raises(ValueError, match="no reference"):
        entry.ref_target()
    assert artifact.get_entry("m").digest == artifact.files()[0].digest == entry.digest


def test_missing_entry_is_none(project: Path) -> None:
    """``get_entry`` of what is not there raises what programs catch for it."""
    artifact = make()
    for kind in (KeyError, errors.NotFoundError):
        with pytest.raises(kind, match="has no entry 'x'"):
            artifact.get_entry("x")
    with pytest.raises(KeyError):
        artifact.manifest.entries["x"]
    assert artifact.manifest.entries.get("x") is None
    artifact.get("x")  # no object of this name, and no error


def test_manifest_cuts_names(project: Path) -> None:
    """A manifest gives an entry by its path, and those below a folder, as W&B's does."""
    artifact = make()
    for path in ("data/a", "data/deep/b", "database/c", "top"):
        artifact.add_file("model.h5", name=path)
    manifest = artifact.manifest
    found = manifest.get_entry_by_path("data/a")
    assert found is not None and found.path == "data/a"
    assert manifest.get_entry_by_path("data") is None
    for folder in ("data", "data/"):
        entries = manifest.get_entries_in_directory(folder)
        assert [entry.path for entry in entries] == ["data/a", "data/deep/b"]
    assert manifest.get_entries_in_directory("nowhere") == []
    assert len(manifest.get_entries_in_directory("")) == 4


def test_digest_is_not_that_of_the_format(project: Path) -> None:
    """The digest before logging is that of the store's format: one JSON array an entry, by path."""
    import hashlib
    import json

    artifact = make()
    artifact.add_file("model.h5", name="b")
    artifact.add_file("model.h5", name="a", policy="immutable")
    artifact.add_reference(f"file://{project}/model.h5", name="c", checksum=False)
    digest = f"sha256:{_sha256(b'model.h5')}"
    rows = [
        ["a", digest, 8, None, None],
        ["b", digest, 8, None, None],
        ["c", None, None, f"file://{project}/model.h5", None],
    ]
    lines = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
    assert artifact.digest == f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def test_is_tmp_name_clashes(project: Path) -> None:
    """``is_tmp`` puts the digest's beginning in the place of the name's."""
    entry = make().add_file("model.h5", name="t/model.x.h5", is_tmp=True)
    assert entry.path == f"t/{_sha256(b'model.h5')[:20]}.x.h5"


def test_is_tmp_names_other_bytes(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is that of the captured bytes, however added, and the same file is added once."""
    artifact = make()
    for policy in ("mutable", "immutable"):
        for _ in range(2):
            entry = artifact.add_file("model.h5", is_tmp=True, policy=policy)
            assert entry.path == f"{_sha256(b'model.h5')[:20]}.h5"
    assert list(artifact.manifest.entries) == [entry.path]
    with pytest.raises(errors.FileMissing, match="NUL"):
        artifact.add_file("a\0b", "name", is_tmp=True)
    monkeypatch.setenv("WHERRY_MODE", "disabled")
    assert make().add_file("not there", is_tmp=True).path == "not there"


def test_path_is_refused_too_late(project: Path) -> None:
    """A path that no manifest has room for raises at the call."""
    with pytest.raises(errors.BadPath, match="100,000 are the most"):
        make().add_file("model.h5", name="é/" * 40_000 + "x")


def test_size_beside_a_thread_that_adds(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size may be asked for while another thread adds."""
    artifact = make()
    artifact.add_dir("images")
    contents = artifact._life.contents
    assert contents is not None
    for number, row in enumerate(contents.table.rows()):
        contents.table.put(f"more/{number}", row)
    assert artifact.size > 0
