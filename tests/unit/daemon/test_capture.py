"""The spool: taking requests in, sweeping sessions, freeing, and the loss of power."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from tests.unit.daemon.bench import STORE, Bench, digest
from wherry.errors import FileChanged, FileMissing, PathTaken, ProtocolError
from wherryd.capture.durability import MANY, Durability
from wherryd.capture.freeing import Freer
from wherryd.capture.intake import Header, Intake
from wherryd.capture.sessions import Sweeper
from wherryd.capture.streams import Streams
from wherryd.model import Entry, FileStat, Lane, RunInfo, Source, State
from wherryd.queue.base import Filter, Request
from wherryd.registry.small_manifest import FEW_ENTRIES

#: Whose manifest is a file.
_MANY = {f"{number:02}": b"%d" % number for number in range(FEW_ENTRIES + 1)}


class Session:
    """A session in the spool, locked until ``end``."""

    def __init__(self, spool: Path, name: str) -> None:
        self.path = spool / "sessions" / name
        self.path.mkdir(parents=True)
        self._lock = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def capture(self, folder: str, data: bytes = b"abc") -> str:
        """Put a file into an artifact's folder; return the folder as requests name it."""
        (self.path / folder).mkdir()
        (self.path / folder / "pack").write_bytes(data)
        return f"sessions/{self.path.name}/{folder}"

    def end(self) -> None:
        """What the end of the last process does."""
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1


def _header(folder: str, id_: str = "request-1", **fields: object) -> Header:
    given: dict[str, object] = {
        "id": id_,
        "lane": Lane(STORE, "cats", "model"),
        "type": "model",
        "description": None,
        "metadata": "{}",
        "aliases": [],
        "tags": [],
        "inputs": [],
        "run": RunInfo("run1"),
        "client": "test",
        "folder": folder,
        "offline": False,
        "power": False,
        **fields,
    }
    return Header(**given)  # type: ignore[arg-type]


@pytest.fixture
def session(bench: Bench) -> Iterator[Session]:
    """A session that a process holds."""
    session = Session(bench.spool, "s1")
    yield session
    session.end()


@pytest.fixture
def intake(bench: Bench) -> Intake:
    """What takes streams in."""
    return Intake(str(bench.spool), bench.queue, bench.streams)


@pytest.fixture
def sweeper(bench: Bench) -> Sweeper:
    """What sweeps sessions."""
    return Sweeper(str(bench.spool), bench.queue, bench.streams)


# ── taking in ──────────────────────────────────────────────────────────────────────────────────
async def test_stream_is_cut_into_requests(bench: Bench, session: Session, intake: Intake) -> None:
    """A stream becomes one request with all its entries, however many."""
    folder = session.capture("a1")
    async with intake.receive(_header(folder)) as stream:
        file = stream.place_of("pack")
        for start in range(0, 2500, 500):
            await stream.add(
                Entry(f"{number:05d}", 3, source=Source(file))
                for number in range(start, start + 500)
            )
        accepted = await stream.end(2500, b"body")
    request = await bench.queue.get(accepted.row)
    assert (request.entries, request.size, request.folder) == (2500, 7500, folder)
    assert len(await bench.queue.entries(request.row, limit=3000)) == 2500


async def test_cut_stream_leaves_entries(bench: Bench, session: Session, intake: Intake) -> None:
    """A stream that is cut before its end is nothing."""
    folder = session.capture("a1")
    with pytest.raises(ConnectionError):
        async with intake.receive(_header(folder)) as stream:
            file = stream.place_of("pack")
            await stream.add(Entry(f"{n:05d}", 3, source=Source(file)) for n in range(1500))
            raise ConnectionError
    assert await bench.queue.find(Filter()) == []
    row = bench.queue.new_row() - 1
    assert await bench.queue.entries(row) == []


@pytest.mark.parametrize(("paths", "error"), [(["a", "a"], PathTaken), (["b", "a"], ProtocolError)])
async def test_paths_out_of_order_are_taken(
    intake: Intake, paths: list[str], error: type[Exception]
) -> None:
    """Paths ascend over the whole stream; one that comes twice is taken."""
    with pytest.raises(error):
        async with intake.receive(_header("")) as stream:
            for path in paths:
                await stream.add([Entry(path, 0)])


async def test_wrong_count_is_taken(intake: Intake) -> None:
    """The end says how many entries were sent; another number means that some are missing."""
    with pytest.raises(ProtocolError, match=r"2 entries, .* were announced; 1, "):
        async with intake.receive(_header("")) as stream:
            await stream.add([Entry("a", 0)])
            await stream.end(2, b"body")


@pytest.mark.parametrize("name", ["", ".", "..", "../other", "a/b", "a\0b"])
async def test_spool_file_lies_elsewhere(session: Session, intake: Intake, name: str) -> None:
    """A spool file is named by its plain name in the request's own folder."""
    with pytest.raises(ProtocolError):
        async with intake.receive(_header(session.capture("a1"))) as stream:
            stream.place_of(name)


@pytest.mark.parametrize("how", ["missing", "short", "symlink"])
async def test_promise_without_bytes(
    bench: Bench, session: Session, intake: Intake, how: str, tmp_path: Path
) -> None:
    """No request is accepted whose captured bytes are not there."""
    folder = session.capture("a1", b"ab" if how == "short" else b"abc")
    pack = session.path / "a1" / "pack"
    if how == "missing":
        pack.unlink()
    elif how == "symlink":
        pack.rename(tmp_path / "elsewhere")
        pack.symlink_to(tmp_path / "elsewhere")
    with pytest.raises((FileMissing, FileChanged)):
        async with intake.receive(_header(folder)) as stream:
            await stream.add([Entry("a", 3, source=Source(stream.place_of("pack")))])
            await stream.end(1, b"body")
    assert await bench.queue.find(Filter()) == []


async def test_answer_is_lost_for_ever(bench: Bench, session: Session, intake: Intake) -> None:
    """A client that missed the answer gets it again, even when the bytes were sent and freed."""
    folder = session.capture("a1")

    async def log() -> tuple[int | None, bool]:
        async with intake.receive(_header(folder)) as stream:
            await stream.add([Entry("a", 3, source=Source(stream.place_of("pack")))])
            accepted = await stream.end(1, b"body")
            return accepted.place, accepted.again

    assert await log() == (1, False)
    (session.path / "a1" / "pack").unlink()
    assert await log() == (1, True)


# ── sweeping ───────────────────────────────────────────────────────────────────────────────────
async def test_living_session_is_swept(session: Session, sweeper: Sweeper) -> None:
    """A session that a process holds is left alone, whatever the queue knows of it."""
    session.capture("a1")
    assert await sweeper.sweep()
    assert (session.path / "a1" / "pack").exists()


async def test_dead_session_stays(session: Session, sweeper: Sweeper) -> None:
    """A session that no process holds goes, with all that nobody logged."""
    session.capture("a1")
    (session.path / "half-written").write_bytes(b"x")
    session.end()
    assert not await sweeper.sweep()
    assert not session.path.exists()


async def test_forked_child_loses_the_session(session: Session, sweeper: Sweeper) -> None:
    """The lock is shared with forked children: the session lives until the last of them is gone."""
    session.capture("a1")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    os.close(read)
    session.end()
    assert await sweeper.sweep()
    assert session.path.exists()
    os.close(write)
    os.waitpid(child, 0)
    await sweeper.sweep()
    assert not session.path.exists()


async def test_logged_folder_is_swept_with_its_session(
    bench: Bench, session: Session, intake: Intake, sweeper: Sweeper
) -> None:
    """What a request needs stays when its process is gone; the rest of the session goes."""
    folder = session.capture("logged")
    session.capture("never-logged")
    async with intake.receive(_header(folder)) as stream:
        await stream.add([Entry("a", 3, source=Source(stream.place_of("pack")))])
        accepted = await stream.end(1, b"body")
    session.end()
    await sweeper.sweep()
    assert sorted(os.listdir(session.path)) == ["lock", "logged"]
    await bench.queue.cancel(accepted.row)
    await sweeper.sweep()
    assert not session.path.exists()


async def test_session_without_a_lock_loses_files(bench: Bench, sweeper: Sweeper) -> None:
    """A client that is making its session: an empty folder may go, one with anything in it stays."""
    sessions = bench.spool / "sessions"
    (sessions / "just-made").mkdir(parents=True)
    (sessions / "odd").mkdir()
    (sessions / "odd" / "file").write_bytes(b"x")
    await sweeper.sweep()
    assert os.listdir(sessions) == ["odd"]


async def test_running_stream_is_swept_away(
    bench: Bench, session: Session, intake: Intake, sweeper: Sweeper
) -> None:
    """A client may die while the daemon still reads what it sent: its stream keeps the folder."""
    folder = session.capture("a1")
    async with intake.receive(_header(folder)) as stream:
        session.end()
        await sweeper.sweep()
        await stream.add([Entry("a", 3, source=Source(stream.place_of("pack")))])
        await stream.end(1, b"body")
    await sweeper.sweep()
    assert (session.path / "a1" / "pack").exists()


async def test_stream_after_the_sweep_is_promised(
    session: Session, intake: Intake, sweeper: Sweeper
) -> None:
    """A stream that was still in the socket when its folder was swept fails; nothing is promised."""
    folder = session.capture("a1")
    session.end()
    await sweeper.sweep()
    with pytest.raises(FileMissing):
        async with intake.receive(_header(folder)) as stream:
            await stream.add([Entry("a", 3, source=Source(stream.place_of("pack")))])
            await stream.end(1, b"body")


def test_stream_within_a_sweep_loses_its_folder() -> None:
    """A stream that comes and goes while the queue is asked keeps its folder: the answer may be older."""
    streams = Streams()
    with streams.sweeping():
        with streams.taking("sessions/s/a"):
            pass
        assert streams.doom(["sessions/s/a", "sessions/s/b", "sessions/s/c"], {"sessions/s/c"}) == {
            "sessions/s/b"
        }
        with pytest.raises(FileMissing), streams.taking("sessions/s/b"):
            pass
    with streams.taking("sessions/s/b"):
        pass


def test_stream_before_a_sweep_loses_its_folder() -> None:
    """A stream that runs when a sweep begins keeps its folder for the whole sweep, even if it ends."""
    streams = Streams()
    taking = streams.taking("sessions/s/a")
    taking.__enter__()
    with streams.sweeping():
        taking.__exit__(None, None, None)
        assert streams.doom(["sessions/s/a"], set()) == set()


# ── freeing ────────────────────────────────────────────────────────────────────────────────────
def _freer(bench: Bench) -> Freer:
    return Freer(str(bench.spool), str(bench.manifests), bench.queue, bench.news, bench.clock)


async def _end(bench: Bench, request: Request, how: State) -> None:
    if how is State.CANCELLED:
        await bench.queue.cancel(request.row)
    elif how is State.FAILED:
        await bench.queue.fail(request.row, "FileChanged", "why")
    else:
        done = await bench.wait_state(request, State.UPLOADED)
        await bench.queue.settle(done.row, 0)
        await bench.queue.done(done.row, done.aliases)


async def _freed(bench: Bench) -> None:
    with anyio.fail_after(10):
        while await bench.queue.unfreed():
            bench.clock.advance(1)
            await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("how", [State.DONE, State.CANCELLED])
async def test_ended_request_keeps_its_spool(bench: Bench, how: State) -> None:
    """A request that is done or cancelled gives back its files, its manifest and its entries."""
    if how is State.DONE:
        bench.preparer()
        bench.transferrer()
    bench.start(_freer(bench).run())
    request = await bench.log({"a": b"abc", **_MANY})
    await _end(bench, request, how)
    await _freed(bench)
    assert not (bench.spool / request.folder).exists()
    assert await bench.queue.entries(request.row) == []
    assert not (bench.manifests / f"{request.row}.zst").exists()


async def test_files_that_stay_are_noted_as_free(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that can't be deleted is not noted as free, holds no other up, and is tried again."""
    sound = shutil.rmtree
    stuck: list[str] = []

    def refuse(path: str) -> None:
        if not stuck or path == stuck[0]:
            stuck.append(path)
            raise PermissionError(1, "not permitted", path)
        sound(path)

    monkeypatch.setattr("wherryd.capture.freeing.shutil.rmtree", refuse)
    bench.start(_freer(bench).run())
    first, second = await bench.log({"a": b"abc"}), await bench.log({"a": b"abc"})
    await _end(bench, first, State.CANCELLED)
    await _until(bench, lambda: bool(stuck))
    await _end(bench, second, State.CANCELLED)
    await _until(bench, lambda: not (bench.spool / second.folder).exists())
    await bench.queue.note_synced([])  # the note of the second is in by now, or on its way
    assert first.row in {request.row for request in await bench.queue.unfreed()}
    assert (bench.spool / first.folder).exists()
    monkeypatch.undo()
    await _freed(bench)
    assert not (bench.spool / first.folder).exists()


async def test_run_linked_to_a_done_request_ends_the_freeing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that gets a further alias right before it is freed is left alone, and freed when it is
    done again; others are freed meanwhile.
    """
    bench.preparer()
    bench.transferrer()
    unfreed = bench.queue.unfreed

    async def link_meanwhile(limit: int = 100) -> list[Request]:
        found = await unfreed(limit)
        if len(found) == 2:
            await bench.queue.link(found[0].id, RunInfo("run2"), ["late"])
        return found

    monkeypatch.setattr(bench.queue, "unfreed", link_meanwhile)
    requests = [await bench.log({"a": b"abc"}, name=name) for name in ("linked", "other")]
    for request in requests:
        await _end(bench, request, State.DONE)
    bench.start(_freer(bench).run())
    await _until(bench, lambda: not (bench.spool / requests[1].folder).exists())
    assert bench.file_of(requests[0]).exists()
    assert (await bench.queue.get(requests[0].row)).state is State.SETTLED
    await bench.queue.done(requests[0].row, ["late"])
    await _until(bench, lambda: not (bench.spool / requests[0].folder).exists())


async def _until(bench: Bench, holds: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not holds():
            bench.clock.advance(1)
            await anyio.sleep(0.001)


async def test_failed_request_loses_its_bytes(bench: Bench) -> None:
    """A failed request keeps its bytes: a retry needs them."""
    bench.start(_freer(bench).run())
    failed = await bench.log({"a": b"abc"}, name="failed")
    await _end(bench, failed, State.FAILED)
    other = await bench.log({"a": b"abc"}, name="other")
    await _end(bench, other, State.CANCELLED)
    await _freed(bench)
    assert bench.file_of(failed).exists()
    assert len(await bench.queue.entries(failed.row)) == 1


@pytest.mark.parametrize("done", [0, 1, 2])
async def test_half_freed_request_stays(bench: Bench, done: int) -> None:
    """Whatever a killed daemon left of freeing is finished at the next start."""
    request = await bench.log({"a": b"abc"})
    await _end(bench, request, State.CANCELLED)
    if done >= 1:
        await bench.queue.drop_entries(request.row)
    if done >= 2:
        bench.file_of(request).unlink()
    bench.start(_freer(bench).run())
    await _freed(bench)
    assert not (bench.spool / request.folder).exists()


async def test_stray_manifests_stay(bench: Bench) -> None:
    """Manifests that no request needs go at the start; that of a prepared one stays."""
    bench.preparer()
    request = await bench.wait_state(await bench.log(_MANY), State.PREPARED)
    cancelled = await bench.log({"a": b"1"}, name="cancelled")
    await bench.queue.cancel(cancelled.row)
    for name in (f"{cancelled.row}.zst", "999999999.zst", "999999999.zst.tmp"):
        (bench.manifests / name).touch()
    await _freer(bench).sweep_manifests()
    assert os.listdir(bench.manifests) == [f"{request.row}.zst"]


# ── the loss of power ──────────────────────────────────────────────────────────────────────────
def _durability(bench: Bench, boot: str) -> Durability:
    return Durability(str(bench.spool), boot, bench.queue, bench.news, bench.clock)


async def test_bytes_stay_unsynced(bench: Bench) -> None:
    """Captured bytes are synced within seconds of the request, held ones too."""
    bench.start(_durability(bench, "boot-1").run())
    for offline in (False, True):
        await bench.log({"a": b"abc"}, name=f"n{offline}", offline=offline)
    assert len(await bench.queue.unsynced()) == 2
    with anyio.fail_after(10):
        while await bench.queue.unsynced():
            bench.clock.advance(1)
            await anyio.lowlevel.checkpoint()


async def test_unsynced_bytes_are_trusted_after_a_boot(bench: Bench) -> None:
    """After another boot synced bytes and those that equal their digest are good, others fail."""
    await _durability(bench, "boot-1").check_boot()
    logged = {
        name: await bench.log({"a": b"abc"}, name=name, synced=name == "synced")
        for name in ("synced", "hashed", "damaged", "unhashed")
    }
    held = await bench.log({"a": b"abc"}, name="held", offline=True)
    for name in ("hashed", "damaged"):
        await bench.queue.save_digests(logged[name].row, [("a", digest(b"abc"), 3)])
    bench.file_of(logged["damaged"]).write_bytes(b"\0\0\0")
    await _durability(bench, "boot-2").check_boot()
    assert await bench.states() == {
        "synced": State.ACCEPTED,
        "hashed": State.ACCEPTED,
        "damaged": State.FAILED,
        "unhashed": State.FAILED,
        "held": State.FAILED,
    }
    reason = (await bench.queue.get(held.row)).reason
    assert "the machine went down" in reason
    assert await bench.queue.boot() == "boot-2"


async def test_bytes_in_the_queue_are_lost_with_a_boot(
    bench: Bench, session: Session, intake: Intake
) -> None:
    """What lies in the queue is as durable as the queue: nothing is left to sync or to be looked after."""
    await _durability(bench, "boot-1").check_boot()
    data = Entry("data", 3, digest(b"abc"), Source("", data=b"abc"))
    folder = session.capture("a1")
    for captured in (False, True):
        header = _header(folder, "file") if captured else _header("", "data")
        async with intake.receive(header) as stream:
            file = stream.place_of("pack") if captured else ""
            await stream.add([data, *[Entry("file", 3, source=Source(file))] * captured])
            await stream.end(1 + captured, b"body")
    (unsynced,) = await bench.queue.unsynced(10)
    assert unsynced.folder == folder
    await _durability(bench, "boot-2").check_boot()
    states = [request.state for request in await bench.queue.find(Filter())]
    assert states == [State.ACCEPTED, State.FAILED]


async def test_restart_is_taken_for_a_boot(bench: Bench) -> None:
    """Another start of the daemon under the same boot fails nothing; nor does a system without ids."""
    await _durability(bench, "boot-1").check_boot()
    await bench.log({"a": b"abc"})
    await _durability(bench, "boot-1").check_boot()
    await _durability(bench, "").check_boot()
    assert await bench.states() == {"model": State.ACCEPTED}


def _shared(file: Path) -> Entry:
    """An entry whose bytes lie in the user's own file."""
    seen = file.stat()
    stat = FileStat(seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns)
    return Entry(file.name, seen.st_size, source=Source(str(file), 0, stat))


async def test_bytes_of_immutable_files_are_trusted_after_a_boot(
    bench: Bench, tmp_path: Path
) -> None:
    """Size and time of an ``immutable`` file may outlive its bytes: it fails as a copied one does, also
    when it is tried again, unless it was synced or equals its digest.
    """
    await _durability(bench, "boot-1").check_boot()
    logged = {}
    for name in ("synced", "hashed", "unhashed"):
        file = tmp_path / name
        file.write_bytes(b"abc")
        entries = (_shared(file),)
        logged[name] = await bench.log({}, name=name, entries=entries, synced=name == "synced")
    await bench.queue.save_digests(logged["hashed"].row, [("hashed", digest(b"abc"), 3)])
    await _durability(bench, "boot-2").check_boot()
    assert await bench.states() == {
        "synced": State.ACCEPTED,
        "hashed": State.ACCEPTED,
        "unhashed": State.FAILED,
    }
    await bench.queue.retry(logged["unhashed"].row)
    bench.preparer()
    failed = await bench.wait_state(logged["unhashed"], State.FAILED)
    assert failed.error == "FileChanged"
    await bench.wait_state(logged["hashed"], State.PREPARED)


def _watch_syncs(monkeypatch: pytest.MonkeyPatch, refused: Path | None = None) -> list[int]:
    """The inodes of what is synced; the disk does not take ``refused``, the first time."""
    synced: list[int] = []
    refused_inode = refused.stat().st_ino if refused else 0
    sync = os.fsync

    def watched(file: int) -> None:
        inode = os.fstat(file).st_ino
        synced.append(inode)
        if inode == refused_inode and synced.count(inode) == 1:
            raise OSError(errno.EIO, "Input/output error")
        sync(file)

    monkeypatch.setattr("wherryd.capture.syncing.os.fsync", watched)
    return synced


@pytest.mark.parametrize("others", [0, MANY])
async def test_files_in_place_are_noted_as_synced_and_are_not(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    """An ``immutable`` file that stays where the user has it is synced there, and its name, also where
    one call syncs the whole spool; what took its place meanwhile keeps nobody.
    """
    synced = _watch_syncs(monkeypatch)
    for name in ("file", "fifo"):
        (tmp_path / name).write_bytes(b"abc")
    await bench.log({}, entries=(_shared(tmp_path / "fifo"), _shared(tmp_path / "file")))
    for number in range(others):
        await bench.log({"a": b"abc"}, name=f"n{number}")
    (tmp_path / "fifo").unlink()
    os.mkfifo(tmp_path / "fifo")
    assert await _durability(bench, "").sync_all()
    assert await bench.queue.unsynced() == []
    assert {(tmp_path / "file").stat().st_ino, tmp_path.stat().st_ino} <= {*synced}


@pytest.mark.parametrize("where", ["spool", "in place"])
async def test_bytes_that_the_disk_refused_count_as_synced(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """What the disk did not take fails its request, also when it is tried again; others go on."""
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    in_place = where == "in place"
    entries = (_shared(file),) if in_place else ()
    refused = await bench.log({} if in_place else {"a": b"abc"}, name="refused", entries=entries)
    await bench.log({"a": b"abc"}, name="other")
    _watch_syncs(monkeypatch, file if in_place else bench.file_of(refused))
    await _durability(bench, "").sync_all()
    assert "the disk fails" in (await bench.queue.get(refused.row)).reason
    await bench.queue.retry(refused.row)
    bench.preparer()
    failed = await bench.wait_state(refused, State.FAILED)
    assert failed.error in ("FileChanged", "FileMissing")
    assert (await bench.states())["other"] is not State.FAILED


async def test_a_file_that_can_not_be_opened_now_fails_its_request(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system has no descriptor left, the sync is put off."""
    await bench.log({"a": b"abc"})

    def none_left(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("wherryd.capture.durability.sync_folder", none_left)
    assert not await _durability(bench, "").sync_all()
    assert len(await bench.queue.unsynced()) == 1
    monkeypatch.undo()
    assert await _durability(bench, "").sync_all()
    assert await bench.states() == {"model": State.ACCEPTED}
