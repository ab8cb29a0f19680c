"""The spool: taking requests in, sweeping sessions, freeing, and the loss of power."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from tests.unit.daemon.bench import STORE, Bench, digest
from wherry.errors import FileChanged, FileMissing, PathTaken, ProtocolError
from wherryd.capture.durability import Durability
from wherryd.capture.freeing import Freer
from wherryd.capture.intake import Header, Intake
from wherryd.capture.sessions import Sweeper
from wherryd.capture.streams import Streams
from wherryd.model import Entry, FileStat, Lane, RunInfo, Source, State
from wherryd.queue.base import Filter, Request


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
    with pytest.raises(ProtocolError, match="2 entries and 0 lookups were announced; 1 and 0 came"):
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
    request = await bench.log({"a": b"abc"})
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
    request = await bench.wait_state(await bench.log({"a": b"1"}), State.PREPARED)
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


async def test_restart_is_taken_for_a_boot(bench: Bench) -> None:
    """Another start of the daemon under the same boot fails nothing; nor does a system without ids."""
    await _durability(bench, "boot-1").check_boot()
    await bench.log({"a": b"abc"})
    await _durability(bench, "boot-1").check_boot()
    await _durability(bench, "").check_boot()
    assert await bench.states() == {"model": State.ACCEPTED}


async def test_immutable_file_is_failed_after_a_boot(bench: Bench, tmp_path: Path) -> None:
    """The user's own file is checked against its signature when it is read, not here."""
    file = tmp_path / "user.bin"
    file.write_bytes(b"abc")
    seen = file.stat()
    stat = FileStat(seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns)
    await _durability(bench, "boot-1").check_boot()
    await bench.log({}, entries=(Entry("a", 3, source=Source(str(file), 0, stat)),))
    await _durability(bench, "boot-2").check_boot()
    assert await bench.states() == {"model": State.ACCEPTED}
