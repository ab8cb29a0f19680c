"""Ctrl-C, or what any signal handler raises, in the middle of a call."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path

import pytest

import wherry
from tests.support.interrupts import Interrupt, chosen_lines
from tests.unit.client.recorder import Recorder
from tests.unit.client.test_adding import content
from wherry import connection, errors, session
from wherry.wire import places
from wherry.wire import wherry_pb2 as pb

WHERRY = os.path.dirname(wherry.__file__)

pytestmark = [
    pytest.mark.soak,
    # What is interrupted before it closes a socket leaves that to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.mark.parametrize(
    ("within", "is_warm"),
    [
        ("_begin", False),
        ("exchange", False),
        ("exchange", True),  # the stream is open
        ("log_by", False),
        ("log_by", True),
    ],
)
def test_interrupted_call_spoils_later_ones(
    recorder: Recorder, home: Path, within: str, is_warm: bool
) -> None:
    """Wherever a call is interrupted, it can be made again, and every later one reaches the daemon."""
    run = wherry.init()

    def begin(name: str) -> wherry.Artifact:
        connection.connect(home).close()
        if is_warm:
            run.log_artifact(wherry.Artifact(f"warm-{name}", "t"))
        else:
            wherry.Api()  # the Hello is over
        return wherry.Artifact(name, "t")

    counted = Interrupt(within)
    first = begin("counted")
    counted.run(lambda: run.log_artifact(first))
    hits = 0
    for line in chosen_lines(counted.lines, 24):
        interrupted, after = begin(f"at-{line}"), wherry.Artifact(f"after-{line}", "t")
        interrupt = Interrupt(within, line)
        interrupt.run(lambda logged=interrupted: run.log_artifact(logged))
        hits += bool(interrupt.where)
        for artifact in (interrupted, after):
            run.log_artifact(artifact)
        came = {logged.header.name for logged in recorder.logged}
        assert came >= {f"at-{line}", f"after-{line}"}, interrupt.where
    assert hits


@pytest.mark.parametrize("more", [10, 20_000])
def test_interrupted_undoing_tears_what_comes_after(tmp_path: Path, more: int) -> None:
    """Wherever the taking back of a failed step breaks off, what is added before and after is whole."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a").write_bytes(b"a" * 100)
    os.mkfifo(tmp_path / "d" / "b")

    def fail(artifact: wherry.Artifact) -> None:
        with pytest.raises(errors.NotAFile):
            artifact.add_dir(tmp_path / "d")

    counted = Interrupt("_undo", files=WHERRY)
    counted.run(lambda: fail(wherry.Artifact("counted", "t")))
    assert counted.lines
    for line in range(counted.lines):
        artifact = wherry.Artifact("a", "t")
        with artifact.new_file("before", "wb") as file:
            file.write(b"before")
        interrupt = Interrupt("_undo", line, WHERRY)
        interrupt.run(lambda failing=artifact: fail(failing))
        for name in ("after", "more"):
            with artifact.new_file(name, "wb") as file:
                file.write(name.encode() * (more if name == "more" else 1))
        assert content(artifact, "before") == b"before", interrupt.where
        assert content(artifact, "after") == b"after", interrupt.where
        assert content(artifact, "more") == b"more" * more, interrupt.where


def test_interrupt_leaves_a_lock_behind(home: Path) -> None:
    """After an interrupt anywhere on the way to a session other threads find its lock free."""
    home.mkdir()
    got: list[session.Session] = []
    counted = Interrupt("current", files=WHERRY)
    counted.run(lambda: session.current(str(home)))
    for line in range(counted.lines):
        Interrupt("current", line, WHERRY).run(lambda: session.current(str(home)))
        other = threading.Thread(target=lambda: got.append(session.current(str(home))), daemon=True)
        other.start()
        other.join(20)
        assert len(got) == line + 1


def test_answer_to_another_call_is_taken(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that is not this request's is no promise; the next call sends the request again."""
    run, artifact = wherry.init(), wherry.Artifact("a", "t")
    with monkeypatch.context() as patch:
        patch.setattr(recorder, "log", lambda messages: pb.LogReply(place=len(list(messages))))
        with pytest.raises(errors.ProtocolError, match="answered for no request"):
            run.log_artifact(artifact)
    run.log_artifact(artifact)
    assert len(recorder.logged) == 1


@pytest.mark.parametrize(
    ("kind", "within", "few"),
    [
        ("small", "_make_folder", 1_000),
        ("small", "capture", 20),
        ("in memory", "capture", 20),
        ("large", "capture", 20),
        ("immutable", "capture", 20),
        ("written", "capture", 20),
        ("folder", "capture", 20),
    ],
)
def test_interrupted_capture_loses_what_is_logged(
    recorder: Recorder, tmp_path: Path, kind: str, within: str, few: int
) -> None:
    """A capture that is made again after an interrupt stays until the daemon has sent it."""
    (tmp_path / "d").mkdir()
    source = tmp_path / "d" / "e"
    source.write_bytes(b"x" * {"large": 2_000_000, "in memory": 100}.get(kind, 20_000))

    def capture(artifact: wherry.Artifact) -> None:
        if kind == "written":
            with artifact.new_file("e", "wb") as file:
                file.write(source.read_bytes())
        elif kind == "folder":
            artifact.add_dir(source.parent, merge=True)
        else:
            policy = "immutable" if kind == "immutable" else "mutable"
            artifact.add_file(source, policy=policy, overwrite=True)

    run = wherry.init()
    counted = Interrupt(within, files=WHERRY)
    counted.run(lambda: capture(wherry.Artifact("counted", "t")))
    for line in chosen_lines(counted.lines, few):
        artifact = wherry.Artifact("a", "t", metadata={"line": line})
        interrupt = Interrupt(within, line, WHERRY)
        interrupt.run(lambda added=artifact: capture(added))
        capture(artifact)
        run.log_artifact(artifact)
        del artifact
        gc.collect()
        capture(wherry.Artifact("next", "t"))  # which removes what was dropped without being logged
        header, entries, _ = recorder.logged[-1]
        if kind == "in memory":
            kept = entries[0].data
        else:
            folder = recorder.home / places.SESSIONS / header.session / header.folder
            kept = (folder / entries[0].captured.file).read_bytes()[entries[0].captured.offset :]
        assert kept == source.read_bytes(), interrupt.where
