"""Ctrl-C, or what any signal handler raises, in the middle of a call."""

from __future__ import annotations

from pathlib import Path

import pytest

import wherry
from tests.support.interrupts import Interrupt, chosen_lines
from tests.unit.client.recorder import Recorder
from wherry import connection, errors
from wherry.wire import wherry_pb2 as pb

pytestmark = [
    pytest.mark.soak,
    # What is interrupted before it closes a socket leaves that to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.mark.parametrize(("within", "few"), [("_begin", 24), ("log_by", 24)])
@pytest.mark.parametrize("is_warm", [False, True])
def test_interrupted_call_spoils_later_ones(
    recorder: Recorder, home: Path, within: str, few: int, is_warm: bool
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
    for line in chosen_lines(counted.lines, few):
        interrupted, after = begin(f"at-{line}"), wherry.Artifact(f"after-{line}", "t")
        interrupt = Interrupt(within, line)
        interrupt.run(lambda logged=interrupted: run.log_artifact(logged))
        hits += bool(interrupt.where)
        for artifact in (interrupted, after):
            run.log_artifact(artifact)
        came = {logged.header.name for logged in recorder.logged}
        assert came >= {f"at-{line}", f"after-{line}"}, interrupt.where
    assert hits


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
