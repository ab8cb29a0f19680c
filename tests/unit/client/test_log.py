"""``log_artifact``: what the daemon is told, and that it is told the same again."""

from __future__ import annotations

import gc
import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import wherry
from tests.unit.client.recorder import Recorder, Refusal
from wherry import errors, recent, spool, submit
from wherry.wire import places
from wherry.wire import wherry_pb2 as pb

_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@pytest.fixture
def run(recorder: Recorder) -> wherry.Run:
    return wherry.init(project="cats", job_type="train", group="g", name="n", id="run1")


def make(name: str = "model", **more: object) -> wherry.Artifact:
    return wherry.Artifact(name, "model", **more)  # type: ignore[arg-type] # each test says which


def test_header_says_something_else(recorder: Recorder, run: wherry.Run, home: Path) -> None:
    """The header tells everything that a version's record will have."""
    artifact = make(description="d", metadata={"b": 1, "a": [float("nan")]})
    assert run.log_artifact(artifact, aliases=["best", "latest", ""], tags=["t"]) is artifact
    header = recorder.logged[0].header
    assert _UUID7.fullmatch(header.request_id)
    assert (header.project, header.name, header.type) == ("cats", "model", "model")
    assert header.store == f"file://{home}/store"
    assert header.description == "d"
    assert json.loads(header.metadata) == {"a": ["NaN"], "b": 1}
    assert (list(header.aliases), list(header.tags)) == (["best"], ["t"])
    assert (header.run.id, header.run.name, header.run.group) == ("run1", "n", "g")
    assert (header.run.job_type, header.run.project) == ("train", "cats")
    assert not header.offline and not header.power
    assert header.client.startswith("wherry ")
    assert (header.session, header.folder) == ("", "")  # nothing is captured


@pytest.mark.parametrize(("size", "is_in_memory"), [(16 << 10, True), ((16 << 10) + 1, False)])
def test_small_artifact_makes_a_folder(
    recorder: Recorder, run: wherry.Run, home: Path, size: int, is_in_memory: bool
) -> None:
    """A few KiB go with the request; more lies in the artifact's folder, which the daemon is told."""
    artifact, data = make(), os.urandom(size)
    with artifact.new_file("new", mode="wb") as file:
        file.write(data[:100])
    Path("f").write_bytes(data[100:])
    artifact.add_file("f")
    run.log_artifact(artifact)
    header, entries, _ = recorder.logged[0]
    assert recorder.read == {"new": data[:100], "f": data[100:]}
    assert [entry.HasField("data") for entry in entries] == [is_in_memory] * 2
    assert bool(header.folder) is not is_in_memory
    folders = [*(home / places.SESSIONS).glob("*/*/")]
    assert [folder.name for folder in folders] == [header.folder] * (not is_in_memory)


def test_many_small_files_stay_in_memory(recorder: Recorder, run: wherry.Run) -> None:
    """More than a few files are a folder, however small they are."""
    Path("d").mkdir()
    for number in range(65):
        Path(f"d/{number}").touch()
    few, many = make(), make()
    for number in range(64):
        few.add_file(f"d/{number}")
    many.add_dir("d")
    for artifact in (few, many):
        run.log_artifact(artifact)
    assert [bool(logged.header.folder) for logged in recorder.logged] == [False, True]
    assert {len(logged.entries) for logged in recorder.logged} == {64, 65}
    assert set(recorder.read.values()) == {b""}


def test_missing_description_becomes_empty(recorder: Recorder, run: wherry.Run) -> None:
    """No description and an empty one are two things."""
    run.log_artifact(make())
    run.log_artifact(make(description=""))
    assert [logged.header.HasField("description") for logged in recorder.logged] == [False, True]


def test_entries_come_out_of_order(recorder: Recorder, run: wherry.Run, tmp_path: Path) -> None:
    """Entries come by the UTF-8 bytes of their paths, in messages of bounded size, bytes and all."""
    names = ["b/c", "b-c", "b", "é", "e\u0301", "Z", "\U0001f600", "\uffff", "a" * 200, *"0123"]
    (tmp_path / "d").mkdir()
    artifact = make()
    for number, name in enumerate(n for n in names if n != "b"):
        (tmp_path / "f").write_text(str(number))
        artifact.add_file("f", name=name)
    for number in range(3000):
        (tmp_path / "d" / f"{number:04}").write_text(f"d{number}")
    artifact.add_dir("d", name="d")
    run.log_artifact(artifact)
    (logged,) = recorder.logged
    assert logged.paths == sorted(logged.paths, key=str.encode)
    assert len(logged.paths) == 3000 + len(names) - 1
    assert logged.batches >= 3
    assert recorder.read["b/c"] == b"0"
    assert all(recorder.read[f"d/{number:04}"] == b"d%d" % number for number in range(3000))


def test_kinds_of_entries_look_alike(recorder: Recorder, run: wherry.Run, tmp_path: Path) -> None:
    """Copies, links and references each come as what they are."""
    (tmp_path / "f").write_bytes(b"bytes")
    artifact = make()
    artifact.add_file("f", name="copied")
    artifact.add_file("f", name="linked", policy="immutable")
    artifact.add_reference((tmp_path / "f").as_uri(), name="ref")
    artifact.add_reference("s3://b/x", name="unchecked", checksum=False)
    run.log_artifact(artifact)
    copied, linked, reference, unchecked = recorder.logged[0].entries
    seen = (tmp_path / "f").stat()
    assert not copied.captured.linked and not copied.captured.HasField("stat")
    assert linked.captured.linked
    assert linked.captured.stat.inode == seen.st_ino
    assert linked.captured.stat.device == seen.st_dev
    assert linked.captured.stat.mtime_ns == seen.st_mtime_ns
    assert [entry.size for entry in (copied, linked, reference)] == [5, 5, 5]
    assert reference.reference.uri == (tmp_path / "f").as_uri()
    assert reference.reference.checksum and not unchecked.reference.checksum
    assert (unchecked.reference.uri, unchecked.size) == ("s3://b/x", -1)
    assert recorder.read == {"copied": b"bytes", "linked": b"bytes"}


def test_adding_after_logging_changes_the_request(recorder: Recorder, run: wherry.Run) -> None:
    """After ``log_artifact`` nothing can be added or removed, by whichever call."""
    Path("f").write_text("x")
    artifact = make()
    artifact.add_file("f")
    run.log_artifact(artifact)
    for change in (
        lambda: artifact.add_file("f", name="g"),
        lambda: artifact.add_dir("."),
        lambda: artifact.new_file("n").__enter__(),
        lambda: artifact.remove("f"),
        lambda: artifact.add_reference(Path("f").resolve().as_uri(), name="r"),
    ):
        with pytest.raises(errors.ArtifactFinalizedError, match="can't be changed"):
            change()
    assert list(artifact.manifest.entries) == ["f"]


def test_finalized_artifact_cannot_be_logged(recorder: Recorder, run: wherry.Run) -> None:
    """``finalize`` ends adding, not logging."""
    artifact = make()
    artifact.finalize()
    with pytest.raises(errors.ArtifactFinalizedError):
        artifact.add_file("f")
    run.log_artifact(artifact)
    assert len(recorder.logged) == 1


def test_metadata_changed_later_is_lost(recorder: Recorder, run: wherry.Run) -> None:
    """Metadata, description and aliases may be set until the artifact is logged."""
    artifact = make(metadata={"a": 1})
    artifact.metadata["b"] = 2
    artifact.description = "later"
    artifact.aliases = ["mine", "latest"]
    run.log_artifact(artifact, aliases="more")
    header = recorder.logged[0].header
    assert json.loads(header.metadata) == {"a": 1, "b": 2}
    assert header.description == "later"
    assert list(header.aliases) == ["mine", "more"]
    with pytest.raises(errors.BadMetadata):
        artifact.metadata = {"x": object()}


def test_file_and_folder_of_one_name(recorder: Recorder, run: wherry.Run) -> None:
    """An entry that another needs as a folder raises before anything is sent; removing it helps."""
    Path("f").write_text("x")
    artifact = make()
    for path in ("a", "a-b", "a/b/c", "a/b/d"):
        artifact.add_file("f", name=path)
    with pytest.raises(errors.PathTaken, match=r"'a'.*'a/b/c'"):
        run.log_artifact(artifact)
    assert recorder.logged == []
    artifact.remove("a/b")
    run.log_artifact(artifact)
    assert recorder.logged[0].paths == ["a", "a-b"]


@pytest.mark.parametrize("alias", ["v3", "a/b", "a:b", "x" * 129, "a\n"])
def test_bad_alias_is_sent(recorder: Recorder, run: wherry.Run, alias: str) -> None:
    """A bad alias raises before anything is sent, and the artifact may be logged without it."""
    artifact = make()
    with pytest.raises(errors.BadName):
        run.log_artifact(artifact, aliases=[alias])
    assert recorder.logged == []
    run.log_artifact(artifact)
    assert len(recorder.logged) == 1


# ── once and again ─────────────────────────────────────────────────────────────────────────────
def test_refused_request_comes_under_another_id(recorder: Recorder, run: wherry.Run) -> None:
    """What fails and is called again, or is repeated by the connection, is the same request."""
    artifact = make(metadata={"a": 1})
    recorder.refuse("Log", "QueueLocked")
    with pytest.raises(errors.QueueLocked):
        run.log_artifact(artifact, aliases=["a"])
    sent: list[str] = []
    log = recorder.log

    def spy(messages: object) -> object:
        reply = log(messages)  # type: ignore[arg-type] # handed on as it came
        sent.append(reply.request_id)
        return reply

    recorder.log = spy  # type: ignore[method-assign,assignment] # a test's spy
    recorder.refuse("Log", "ConnectionLost", times=2)
    run.log_artifact(artifact, aliases=["a"])
    assert len(recorder.logged) == len(sent) == 1
    assert recorder.linked == []


@pytest.mark.parametrize("moment", ["before", "after"])
def test_second_try_is_another_request(
    recorder: Recorder, run: wherry.Run, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """A call that is cut off, before or after the daemon took it, is repeated under its id, byte by byte."""
    Path("f").write_text("x")
    artifact = make(metadata={"a": 1})
    for number in range(2500):  # so that the entries need more than one message
        artifact.add_file("f", name=f"{number:0200}")
    tries: list[list[bytes]] = []
    log = recorder.log

    def cut_off_twice(messages: Iterator[pb.LogMessage]) -> pb.LogReply:
        whole = list(messages)
        tries.append([message.SerializeToString() for message in whole])
        if len(tries) == 3:
            return log(iter(whole))
        if moment == "after":
            log(iter(whole))
        raise Refusal("ConnectionLost")

    monkeypatch.setattr(recorder, "log", cut_off_twice)
    run.log_artifact(artifact)
    (logged,) = recorder.logged
    first = pb.LogMessage.FromString(tries[0][0]).header
    assert first.request_id == logged.header.request_id
    assert len(tries[0]) > 3
    assert tries[0] == tries[1] == tries[2]


def test_second_logging_makes_another_request(recorder: Recorder, run: wherry.Run) -> None:
    """Logging one Artifact again links the run to the first request; the same call again adds nothing."""
    artifact = make()
    run.log_artifact(artifact, aliases=["a"])
    run.log_artifact(artifact, aliases=["a"])
    assert recorder.linked == []
    run.log_artifact(artifact, aliases=["b"])
    other = wherry.init(project="cats", id="run2")
    assert other.log_artifact(artifact) is artifact
    assert len(recorder.logged) == 1
    request_id = recorder.logged[0].header.request_id
    assert [link.request_id for link in recorder.linked] == [request_id, request_id]
    assert [link.run.id for link in recorder.linked] == ["run1", "run2"]
    assert [list(link.aliases) for link in recorder.linked] == [["b"], []]


def test_threads_log_one_artifact_twice(recorder: Recorder, run: wherry.Run) -> None:
    """Many threads may log different artifacts, and the same one, at once."""
    shared = make("shared")
    Path("f").write_text("x")

    def work(number: int) -> None:
        own = make(f"own{number}")
        own.add_file("f", name=str(number))
        run.log_artifact(own)
        run.log_artifact(shared)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = sorted(logged.header.name for logged in recorder.logged)
    assert names == sorted([*(f"own{number}" for number in range(8)), "shared"])


def test_threads_add_to_one_artifact_over_each_other(recorder: Recorder, run: wherry.Run) -> None:
    """Threads may add to the same artifact at once."""
    for number in range(8):
        Path(str(number)).write_bytes(bytes([number]) * 2000)
    shared = make()

    def work(number: int) -> None:
        for turn in range(50):
            shared.add_file(str(number), name=f"{number}/{turn}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.log_artifact(shared)
    for number in range(8):
        for turn in range(50):
            assert recorder.read[f"{number}/{turn}"] == bytes([number]) * 2000


def test_wrong_type_is_logged(recorder: Recorder, run: wherry.Run) -> None:
    """A name that belongs to another type raises at the call, as a ValueError."""
    recorder.refuse("Log", "TypeTaken", "cats/model is of type 'dataset'")
    with pytest.raises(ValueError, match="dataset"):
        run.log_artifact(make())


def test_refused_artifact_is_stuck(
    recorder: Recorder, run: wherry.Run, home: Path, tmp_path: Path
) -> None:
    """An artifact that the daemon refuses for good is as before: it can be changed and logged
    elsewhere, and its bytes go when it is dropped.
    """
    Path("f").write_bytes(bytes(20_000))  # in the spool
    artifact, final = make(), make()
    final.finalize()
    recorder.refuse("Log", "TypeTaken", times=2)
    for refused in (artifact, final):
        with pytest.raises(errors.TypeTaken):
            run.log_artifact(refused)
    with pytest.raises(errors.ArtifactFinalizedError):
        final.add_file("f")
    artifact.add_file("f")
    wherry.init(project="another").log_artifact(artifact)
    (logged,) = recorder.logged
    assert (logged.header.project, logged.paths) == ("another", ["f"])

    dropped = make("dropped")
    dropped.add_file("f")
    recorder.refuse("Log", "TypeTaken")
    with pytest.raises(errors.TypeTaken):
        run.log_artifact(dropped)
    folders = set((home / places.SESSIONS).glob("*/*/"))
    del dropped, refused
    gc.collect()
    make("next").add_file("f")
    gone = [folder for folder in folders if not folder.exists()]
    assert len(gone) == 1
    assert (home / places.SESSIONS / logged.header.session / logged.header.folder).exists()


def test_ids_repeat() -> None:
    """Request ids differ and grow with time."""
    ids = [submit.new_request_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(_UUID7.fullmatch(each) for each in ids)
    assert ids[0][:8] <= ids[-1][:8]


# ── modes ──────────────────────────────────────────────────────────────────────────────────────
def test_power_does_not_sync(
    recorder: Recorder, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``power`` every captured file and every folder above it is synced before the call."""
    monkeypatch.setenv("WHERRY_DURABILITY", "power")
    synced: list[str] = []
    sync = spool.sync_path

    def spy(path: str) -> None:
        synced.append(path)
        sync(path)

    monkeypatch.setattr("wherry.spool.sync_path", spy)
    run = wherry.init(project="cats")
    Path("f").write_bytes(b"x" * (2 << 20))
    artifact = make()
    artifact.add_file("f")
    artifact.add_file("f", name="linked", policy="immutable")
    with artifact.new_file("n") as file:
        file.write("n")
    run.log_artifact(artifact)
    header = recorder.logged[0].header
    assert header.power
    session = home / places.SESSIONS / header.session
    folder = session / header.folder
    above = [session, session.parent, session.parent.parent, home]
    expected = [*folder.iterdir(), folder, *above]
    assert sorted(synced) == sorted(str(path) for path in expected)


def test_offline_is_not_told(recorder: Recorder) -> None:
    """Offline requests are marked; what needs the commit raises ``Offline`` at once."""
    run = wherry.init(project="cats", mode="offline")
    artifact = run.log_artifact(make())
    assert recorder.logged[0].header.offline
    for ask in (
        artifact.wait,
        lambda: artifact.version,
        lambda: artifact.digest,
        lambda: run.use_artifact("model:latest"),
        artifact.download,
    ):
        with pytest.raises(errors.Offline, match="wherry sync"):
            ask()
    assert artifact.state == "PENDING"
    run.finish()


def test_artifact_of_another_home_is_sent(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    """What was captured in one home can't be logged by a run of another."""
    monkeypatch.setenv("WHERRY_HOME", str(tmp_path / "other"))
    Path("f").write_bytes(bytes(20_000))
    artifact = make()
    artifact.add_file("f")
    monkeypatch.setenv("WHERRY_HOME", str(home))
    run = wherry.init(project="cats")
    with pytest.raises(errors.UsageError, match="captured in"):
        run.log_artifact(artifact)
    artifact.add_file("f", name="more")  # it is not logged, and may be where it belongs


def test_held_by_another_program_is_not_found(recorder: Recorder) -> None:
    """Offline, what another program of this home has logged is ``Offline``, not missing; what is in the
    store is found by its version or alias all the same.
    """
    first = wherry.init(project="cats", id="run1")
    first.log_artifact(wherry.Artifact("pets", "dataset"), aliases=["best"])
    recorder.commit(0, 0)
    other = wherry.init(project="cats", mode="offline")
    other.log_artifact(wherry.Artifact("pets", "dataset"))
    vars(recent)["_last"].clear()  # as in another process
    for name in ("pets", "pets:latest", "pets:v7", "pets:nosuch"):
        with pytest.raises(errors.Offline, match="wherry sync"):
            other.use_artifact(name)
    for name in ("pets:v0", "pets:best"):
        assert other.use_artifact(name).version == "v0"
    with pytest.raises(errors.NotFoundError):
        other.use_artifact("birds")


def test_logging_again_asks_for_no_version(recorder: Recorder) -> None:
    """An artifact that was logged already costs a loop no further call."""
    run, artifact = wherry.init(), wherry.Artifact("a", "t")
    run.log_artifact(artifact)
    run.log_artifact(artifact)
    assert artifact.base_name == "a"
    assert not recorder.waits


def test_those_who_stop_listening_keep_no_thread_of_the_recorder(recorder: Recorder) -> None:
    """The tests' daemon has 16 threads; more calls than that are broken off, and it answers on."""
    run, artifact = wherry.init(), wherry.Artifact("a", "t")
    run.log_artifact(artifact)
    for _ in range(20):
        assert artifact.name == "a"  # looks, and stops listening
    assert len(recorder.waits) == 20
