"""What is particular to a folder: kills, leftovers, syncing, and what the system refuses."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from wherry.errors import (
    AccessRefused,
    StoreDamaged,
    StoreMissing,
    StoreUnavailable,
    StoreUnfit,
)
from wherry.wire.failpoints import DECLARED
from wherryd.clock import SystemClock
from wherryd.stores.base import (
    EtagMismatch,
    FileBody,
    Found,
    Object,
    ObjectExists,
    ObjectMissing,
    ObjectStore,
    OutcomeUnknown,
)
from wherryd.stores.folder import FolderStore, files, landing, roots, temporary

TMP = "%wherry/tmp"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The store's folder."""
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def store(root: Path) -> FolderStore:
    """The store."""
    return FolderStore(str(root), SystemClock())


# ── kills ────────────────────────────────────────────────────────────────────────────────────────

CHILD = """
import sys, anyio
from wherryd.clock import SystemClock
from wherryd.stores.folder import FolderStore

async def main(root, verb):
    store = FolderStore(root, SystemClock())
    if verb == "put":
        await store.put("a/b/key", b"new")
    elif verb == "create":
        await store.put_if_absent("a/b/key", b"new")
    elif verb == "replace":
        await store.put_if_match("a/b/key", b"new", (await store.head("a/b/key")).etag)
    else:
        await store.put("a/b/key", b"new")
        await store.sync(["a/b/key"], "id")

anyio.run(main, *sys.argv[1:])
"""


def _killed_at(place: str, root: Path) -> None:
    """Run the verb that passes a failpoint in a process of its own, which ends there."""
    verb = place.split(".")[2]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(root), verb],
        env={**os.environ, "WHERRY_FAILPOINT": place},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL


async def _keys(store: ObjectStore) -> list[str]:
    return [stat.key async for stat in store.list("")]


#: Where an object is being made; not the sweep, which no object is part of.
PLACES = sorted(
    name
    for name in DECLARED
    if name.startswith("stores.folder.") and not name.startswith("stores.folder.sweep.")
)


@pytest.mark.parametrize("place", PLACES)
async def test_a_kill_leaves_half_an_object(place: str, root: Path, store: FolderStore) -> None:
    """After a kill at any step the object is whole or not there, and doing it again is safe."""
    verb = place.split(".")[2]
    if verb == "replace":
        await store.put_if_absent("a/b/key", b"old")
    _killed_at(place, root)
    try:
        there = (await store.get("a/b/key")).body
    except ObjectMissing:
        there = None
    assert there in ((b"old", b"new") if verb == "replace" else (None, b"new"))
    assert await _keys(store) == (["a/b/key"] if there else [])
    assert [name async for name in store.list_folders("")] == (["a"] if there else [])
    await _again(store, verb)
    assert (await store.get("a/b/key")).body == b"new"
    assert await _keys(store) == ["a/b/key"]


async def _again(store: FolderStore, verb: str) -> None:
    if verb == "create":
        try:
            await store.put_if_absent("a/b/key", b"new")
        except ObjectExists:
            pass
    elif verb == "replace":
        await store.put_if_match("a/b/key", b"new", (await store.head("a/b/key")).etag)
    else:
        await store.put("a/b/key", b"new")


def test_failpoints_are_missed() -> None:
    """Every step of every writing verb has a place where a kill is tried."""
    assert len(PLACES) == 10


async def test_leftovers_are_kept(root: Path) -> None:
    """What an ended process left is swept by the next one's first write; what is in use stays."""
    _killed_at("stores.folder.create.before-link", root)
    (left,) = os.listdir(root / TMP)
    _make_old(root / TMP / left, 3600)
    busy = root / TMP / "busy"
    busy.write_bytes(b"another writer's")
    _make_old(busy, 3600)
    with busy.open("rb+") as file:
        _lock(file.fileno())
        await FolderStore(str(root), SystemClock()).put("key", b"x")
        assert os.listdir(root / TMP) == ["busy"]
        _make_old(busy, 2 * 86_400)
        await FolderStore(str(root), SystemClock()).put("key", b"x")
    assert os.listdir(root / TMP) == []


async def test_a_young_leftover_is_swept(root: Path) -> None:
    """A file that was made a moment ago may not be locked yet, and stays."""
    (root / TMP).mkdir(parents=True)
    (root / TMP / "young").touch()
    await FolderStore(str(root), SystemClock()).put("key", b"x")
    assert os.listdir(root / TMP) == ["young"]


async def test_a_young_leftover_stays_for_ever(
    root: Path, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was too young when this process first wrote is swept a minute later, as what came since."""
    (root / TMP).mkdir(parents=True)
    (root / TMP / "young").touch()
    await store.put("key", b"x")
    (root / TMP / "later").touch()
    for left in ("young", "later"):
        _make_old(root / TMP / left, 61)
    await store.put("key", b"x")
    assert sorted(os.listdir(root / TMP)) == ["later", "young"]  # not at each write
    monkeypatch.setattr(temporary, "_SWEEP_EVERY_S", 0)
    await store.put("key", b"x")
    assert os.listdir(root / TMP) == []


async def test_a_failed_put_leaves_a_file(root: Path, store: FolderStore, tmp_path: Path) -> None:
    """A put that raises leaves no temporary file."""
    body = FileBody(path=str(tmp_path / "none"), offset=0, size=1, sha256=bytes(32))
    with pytest.raises(Exception, match="is gone"):
        await store.put("key", body)
    assert os.listdir(root / TMP) == []
    assert await _keys(store) == []


def _make_old(path: Path, seconds: int) -> None:
    stamp = path.stat().st_mtime - seconds
    os.utime(path, (stamp, stamp))


def _lock(fd: int) -> None:
    import fcntl

    fcntl.flock(fd, fcntl.LOCK_EX)


async def test_two_processes_replace_the_same_state(root: Path, store: FolderStore) -> None:
    """Processes that race to replace one state have one winner in each round."""
    await store.put_if_absent("alias", b"0")
    program = """
import sys, anyio
from wherryd.clock import SystemClock
from wherryd.stores.base import EtagMismatch
from wherryd.stores.folder import FolderStore

async def main(root):
    store, won = FolderStore(root, SystemClock()), 0
    while won < 20:
        seen = await store.get("alias")
        try:
            await store.put_if_match("alias", b"%d" % (int(seen.body) + 1), seen.stat.etag)
            won += 1
        except EtagMismatch:
            pass

anyio.run(main, *sys.argv[1:])
"""
    racers = [subprocess.Popen([sys.executable, "-c", program, str(root)]) for _ in range(3)]
    assert [racer.wait() for racer in racers] == [0, 0, 0]
    assert (await store.get("alias")).body == b"60"


async def test_an_etag_comes_twice(root: Path, store: FolderStore) -> None:
    """Replacing fast, with bytes of one length, gives a new ETag each time."""
    etags = [await store.put_if_absent("alias", b"0000")]
    for number in range(1, 200):
        etags.append(await store.put_if_match("alias", b"%04d" % number, etags[-1]))
    assert len(set(etags)) == 200
    with pytest.raises(EtagMismatch):
        await store.put_if_match("alias", b"late", etags[0])


# ── what reaches the disk ────────────────────────────────────────────────────────────────────────


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch, root: Path) -> list[str]:
    """What the store does that a power loss cares about, in order; paths below the root."""
    done: list[str] = []

    def note(name: str, at: int) -> None:
        for module in (files, temporary, roots):
            real = getattr(module, name, None)
            if real:
                monkeypatch.setattr(module, name, _noted(real, name, at, done, root))

    note("sync_file", 0)
    note("sync_folder", 0)
    note("name_new", 1)
    return done


def _noted(real, name, at, done, root):  # type: ignore[no-untyped-def]
    def call(*args):  # type: ignore[no-untyped-def]
        place = args[at]
        path = os.readlink(f"/proc/self/fd/{place}") if isinstance(place, int) else place
        path = os.path.relpath(os.path.join(root, path), root)
        done.append(f"{name} {'temporary' if path.startswith(TMP) else path}")
        return real(*args)

    return call


async def test_a_record_can_be_lost(store: FolderStore, steps: list[str]) -> None:
    """A record is synced, named, then its folder and all new ones above are synced, each once."""
    await store.put_if_absent("p/versions/v0", b"x")
    assert steps[:1] == ["sync_file temporary"]
    assert [step for step in steps if step.startswith("name")][-1] == "name_new p/versions/v0"
    assert sorted(steps[-3:]) == ["sync_folder .", "sync_folder p", "sync_folder p/versions"]
    steps.clear()
    await store.put_if_absent("p/versions/v1", b"x")
    assert steps == [
        "sync_file temporary",
        "name_new p/versions/v1",
        "sync_folder p/versions",
    ]
    steps.clear()
    etag = (await store.head("p/versions/v1")).etag
    await store.put_if_match("p/versions/v1", b"y", etag)
    assert steps == ["sync_file temporary", "sync_folder p/versions"]


async def test_folders_that_another_made_are_not_synced(root: Path, steps: list[str]) -> None:
    """Folders that were there already are synced once too: who made them may not have done it."""
    (root / "p" / "q").mkdir(parents=True)
    await FolderStore(str(root), SystemClock()).put_if_absent("p/q/key", b"x")
    assert sorted(steps[-3:]) == ["sync_folder .", "sync_folder p", "sync_folder p/q"]


async def test_a_blob_is_named_before_it_is_synced(store: FolderStore, steps: list[str]) -> None:
    """``put`` syncs a file before it has a name, also in the place of another; ``sync`` each folder once."""
    keys = [f"p/blobs/{number % 4}/{number}" for number in range(12)]
    for key in [*keys, *keys]:
        await store.put(key, b"x")
        assert steps[0] == "sync_file temporary"
        assert not [step for step in steps[1:] if step.startswith("sync")]
        steps.clear()
    await store.sync(keys, "id")
    folders = [".", "p", "p/blobs", *(f"p/blobs/{number}" for number in range(4))]
    assert sorted(steps) == sorted(f"sync_folder {folder}" for folder in folders)
    steps.clear()
    await store.sync(keys, "id")
    assert sorted(steps) == [f"sync_folder p/blobs/{number}" for number in range(4)]


async def test_a_blob_that_the_disk_refused_stays(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file whose sync fails gets no name: a second sync would pass though its bytes are lost."""
    monkeypatch.setattr(temporary, "sync_file", _fails(errno.EIO))
    with pytest.raises(StoreUnavailable):
        await store.put("p/blob", b"x")
    with pytest.raises(ObjectMissing):
        await store.head("p/blob")


# ── one folder in another's place ────────────────────────────────────────────────────────────────


async def test_an_exchanged_folder_passes_for_the_one_before(
    root: Path, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ``get_all`` and ``sync`` tell is of one folder, though another takes its place meanwhile."""
    await store.put("id", b"one")
    await store.put("p/blob", b"x")
    aside = root.with_name("aside")
    look = files.read_at

    def exchange(opened: int, key: str) -> Object | None:
        monkeypatch.undo()
        root.rename(aside)
        root.mkdir()
        (root / "id").write_bytes(b"other")
        return look(opened, key)

    monkeypatch.setattr(files, "read_at", exchange)
    found = await store.get_all(["id", "p/blob", "p/none"])
    assert {key: there.body for key, there in found.items()} == {"id": b"one", "p/blob": b"x"}
    assert (await store.get_all(["id", "p/blob"])).keys() == {"id"}
    shutil.rmtree(root)
    aside.rename(root)

    monkeypatch.setattr(files, "read_at", exchange)
    assert await store.sync(["p/blob", "p/none"], "id") == Found(b"one", ("p/none",))
    assert await store.sync(["p/blob"], "id") == Found(b"other", ("p/blob",))


async def test_another_folders_names_count_as_synced(
    root: Path, store: FolderStore, steps: list[str]
) -> None:
    """In a folder that took another's place no folder counts as synced."""
    await store.put_if_absent("p/v0", b"x")
    root.rename(root.with_name("aside"))
    (root / "p").mkdir(parents=True)
    steps.clear()
    await store.put_if_absent("p/v1", b"x")
    assert sorted(steps[-2:]) == ["sync_folder .", "sync_folder p"]


def _fails(number: int):  # type: ignore[no-untyped-def]
    def call(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


async def test_a_linked_record_counts_as_not_written(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If its folder can't be synced, a record may or may not last: the outcome is unknown."""
    monkeypatch.setattr(roots, "sync_folder", _fails(errno.EIO))
    with pytest.raises(OutcomeUnknown):
        await store.put_if_absent("p/v0", b"x")
    assert (await store.get("p/v0")).body == b"x"
    with pytest.raises(OutcomeUnknown):
        await store.put_if_match("p/v0", b"y", (await store.head("p/v0")).etag)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
async def test_a_link_without_an_answer_counts_as_refused(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """On a network filesystem a failed link may have happened."""
    monkeypatch.setattr(files, "name_new", _fails(number))
    with pytest.raises(OutcomeUnknown):
        await store.put_if_absent("v0", b"x")


# ── naming ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_filesystem_without_links_replaces(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are no hard links, a rename that does not replace is used."""
    monkeypatch.setattr(os, "link", _no_links)
    await store.put_if_absent("a/v0", b"first")
    with pytest.raises(ObjectExists):
        await store.put_if_absent("a/v0", b"second")
    await store.put("a/blob", b"one")
    await store.put("a/blob", b"two")
    assert (await store.get("a/v0")).body == b"first"
    assert (await store.get("a/blob")).body == b"two"
    assert await _keys(store) == ["a/blob", "a/v0"]


async def test_a_filesystem_with_neither_is_used(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where neither can be had, the folder is unfit."""
    monkeypatch.setattr(os, "link", _no_links)
    monkeypatch.setattr(landing, "_rename", lambda: lambda *_: errno.EINVAL)
    with pytest.raises(StoreUnfit):
        await store.put_if_absent("v0", b"x")


def _no_links(*_: object, **__: object) -> None:
    raise PermissionError(errno.EPERM, "no hard links here")


def test_a_repeated_link_is_taken_for_anothers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS may say EEXIST to a link that it has made itself."""
    real = os.link

    def link(*args: str, **options: bool) -> None:
        real(*args, **options)
        raise FileExistsError(errno.EEXIST, "sent twice")

    (tmp_path / "new").write_bytes(b"mine")
    monkeypatch.setattr(os, "link", link)
    with (tmp_path / "new").open("rb") as file:
        landing.name_new(str(tmp_path / "new"), str(tmp_path / "final"), file.fileno())
    (tmp_path / "other").write_bytes(b"another's")
    monkeypatch.setattr(os, "link", real)
    with (tmp_path / "other").open("rb") as file, pytest.raises(FileExistsError):
        landing.name_new(str(tmp_path / "other"), str(tmp_path / "final"), file.fileno())


@pytest.mark.parametrize(
    "key", ["", "/a", "a//b", "a/", "../a", "a/..", ".", "%wherry/x", "%wherry"]
)
async def test_a_key_leads_out_of_the_store(store: FolderStore, key: str) -> None:
    """What is no key is refused before the disk sees it."""
    for call in (
        store.get(key),
        store.put(key, b"x"),
        store.put_if_absent(key, b"x"),
        store.delete(key),
    ):
        with pytest.raises(ValueError, match="no key"):
            await call


async def test_foreign_files_stop_a_listing(root: Path, store: FolderStore) -> None:
    """Names that are no UTF-8, dangling links and our own folder are no objects."""
    await store.put_if_absent("key", b"x")
    with open(os.fsencode(root) + b"/\xff\xfe", "wb"):
        pass
    (root / "dangling").symlink_to("nowhere")
    (root / "empty" / "folder").mkdir(parents=True)
    assert await _keys(store) == ["key"]
    assert [name async for name in store.list_folders("")] == []


# ── what the system refuses ──────────────────────────────────────────────────────────────────────


async def test_a_missing_folder_is_made_or_reads_as_empty(root: Path, store: FolderStore) -> None:
    """A store whose folder is gone, as a disk that is not mounted, is missing to every verb."""
    root.rmdir()
    for verb in (
        store.get("a/b"),
        store.head("a/b"),
        store.put("a/b", b"x"),
        store.put_if_absent("a/b", b"x"),
        store.put_if_match("a/b", b"x", "e"),
        store.delete("a/b"),
        store.sync(["a/b"], "id"),
        store.get_all(["a/b"]),
        _keys(store),
        anext(store.stream("a/b")),
        anext(store.list_folders("")),
    ):
        with pytest.raises(StoreMissing, match="mkdir -p"):
            await verb
    assert not root.exists()


@contextmanager
def _as_nobody() -> Iterator[None]:
    """Root may write everywhere; the tests may run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_root() -> Iterator[Path]:
    """A folder that everybody can get to; pytest's own are for their owner."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


async def test_a_folder_that_can_not_be_written_is_another_error(open_root: Path) -> None:
    """Without the right to write, the error says whose folder it is; reading goes on."""
    store = FolderStore(str(open_root), SystemClock())
    await store.put("folder/key", b"x")
    await store.put("folder/secret", b"x")
    (open_root / "folder" / "secret").chmod(0o000)
    with _as_nobody():
        assert (await store.get("folder/key")).body == b"x"
        for verb in (
            store.put("folder/b", b"x"),
            store.put_if_absent("folder/b", b"x"),
            store.delete("folder/key"),
            store.get("folder/secret"),
        ):
            with pytest.raises(AccessRefused, match="ls -ld"):
                await verb


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_a_full_disk_leaves_half_an_object(
    root: Path, store: FolderStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Where there is no room, nothing is left behind, and the daemon waits for some."""

    def fill(new: temporary.Temporary, *_: object) -> None:
        new.write(b"half")
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files, "fill", fill)
    with pytest.raises(StoreUnavailable, match="Free some space"):
        await store.put("key", b"half and half")
    assert await _keys(store) == []
    assert os.listdir(root / TMP) == []


async def test_a_file_that_is_too_large_is_a_short_fault(store: FolderStore) -> None:
    """A size that the file system can't hold will not be held later."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limit[1]))
    try:
        with pytest.raises(StoreUnfit):
            await store.put("key", bytes(2 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


async def test_a_long_name_is_a_short_fault(store: FolderStore) -> None:
    """A name that the file system can't hold will not be held later."""
    with pytest.raises(StoreUnfit):
        await store.put("n" * 256, b"x")


async def test_a_file_in_the_way_is_a_short_fault(store: FolderStore) -> None:
    """A file where a folder is needed is damage, whichever came first."""
    await store.put("a", b"x")
    with pytest.raises(StoreDamaged):
        await store.put("a/b", b"x")
    await store.put("c/d", b"x")
    with pytest.raises(StoreDamaged):
        await store.put("c", b"x")


# ── copying ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_cancelled_copy_goes_on(root: Path, store: FolderStore, tmp_path: Path) -> None:
    """A long copy ends between two pieces when its task is cancelled, and leaves nothing."""
    path = tmp_path / "big"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a sparse tebibyte: hours, were it copied whole
    body = FileBody(path=str(path), offset=0, size=1 << 40, sha256=bytes(32))
    async with anyio.create_task_group() as group:
        group.start_soon(store.put, "blob", body)
        with anyio.fail_after(30):
            while not (root / TMP).exists() or not os.listdir(root / TMP):
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert os.listdir(root / TMP) == []
    assert await _keys(store) == []


async def test_a_hole_takes_room(root: Path, store: FolderStore, tmp_path: Path) -> None:
    """Holes stay holes."""
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    sha256 = hashlib.sha256(bytes(64 << 20)).digest()
    await store.put("blob", FileBody(path=str(path), offset=0, size=64 << 20, sha256=sha256))
    assert (root / "blob").stat().st_blocks * 512 < 1 << 20
    assert (root / "blob").stat().st_size == 64 << 20


async def test_a_user_file_shares_its_inode_with_the_store(
    root: Path, store: FolderStore, tmp_path: Path
) -> None:
    """A spool file may be a hard link to a file of the user's: its bytes are copied."""
    (tmp_path / "users").write_bytes(b"x")
    os.link(tmp_path / "users", tmp_path / "spooled")
    sha256 = hashlib.sha256(b"x").digest()
    await store.put(
        "blob", FileBody(path=str(tmp_path / "spooled"), offset=0, size=1, sha256=sha256)
    )
    assert (root / "blob").stat().st_ino != (tmp_path / "users").stat().st_ino
    assert (root / "blob").stat().st_nlink == 1


async def test_long_copies_hold_up_a_commit(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many files are being copied, a record is written meanwhile."""
    go_on = threading.Event()
    monkeypatch.setattr(files, "fill", lambda *_: go_on.wait(30))
    body = FileBody(path=str(tmp_path), offset=0, size=0, sha256=bytes(32))
    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(store.put, f"blob{number}", body)
        await anyio.lowlevel.checkpoint()
        await store.put_if_absent("v0", b"x")
        go_on.set()


def test_a_clone_takes_a_file_for_another(tmp_path: Path) -> None:
    """Where blocks can be shared the copy has the same bytes; where not, nothing is written."""
    (tmp_path / "source").write_bytes(b"bytes")
    with (tmp_path / "source").open("rb") as source, (tmp_path / "target").open("wb+") as target:
        cloned = landing.clone(source.fileno(), target.fileno())
        assert target.read() == (b"bytes" if cloned else b"")
