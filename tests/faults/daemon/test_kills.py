"""The daemon, killed by SIGKILL at each place that touches disk or store, and coming back."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import grpc
import pytest

import wherryd.app  # noqa: F401  (declares the places)
from tests.faults.scenes import CLIENT_PLACES
from tests.soak import SOAK, rounds
from tests.support.daemon import (
    Caller,
    DaemonEnded,
    DaemonProcess,
    LoggedArtifact,
    Session,
    read_store,
)
from wherry.wire import wherry_pb2 as pb
from wherry.wire.failpoints import DECLARED
from wherryd.prepare.digests import FEW

T = TypeVar("T")

_OURS = ("app.", "capture.", "prepare.", "transfer.")
#: Of other parts, hit when there is time; their own suites hit each of them too.
_OTHERS = ("commit.", "queue.", "registry.", "stores.folder.")
#: What this history does not come by.
_ELSEWHERE = (
    "transfer.lane.",
    "transfer.latest.",
    "transfer.given-up.",
    "queue.upload.",
    "queue.part.",
    "transfer.request.before-plan",
    "queue.plan.",
    "capture.lost.",
    "capture.manifests.",
    "prepare.lookups.",
    "queue.found.",
    "commit.look.",
    "commit.part.",
    "commit.draft.",
    "queue.keep-part.",
    "queue.part-put.",
    "queue.gather.",
    "queue.seal.",
    "queue.fail-late.",
    "commit.restart.",
    "queue.back.",
    "queue.closed.",
    "queue.damaged.",
    "queue.distrust.",
    "queue.migrate.",
    "queue.forget.",
    "queue.lost.",
    "queue.restart.",
    "queue.stop.",
    "queue.wait.",
    "registry.sole.",
    "stores.folder.sweep.",
)
_ALL_PLACES = [
    name
    for name in sorted(DECLARED)
    if name.startswith((*_OURS, *_OTHERS) if SOAK else _OURS)
    and not name.startswith(_ELSEWHERE)
    and name not in CLIENT_PLACES  # declared as well, where another test has imported the client
]
#: `make test` hits all of them with whole programs (``test_every_failpoint``), and only some of them here.
_PLACES = _ALL_PLACES[:: rounds(3, 1)]


class History:
    """What a few clients do, whatever becomes of the daemon meanwhile."""

    def __init__(self, home: Path, place: str) -> None:
        self.home = home
        self.once = home.parent / "was-killed"
        env = {"WHERRY_FAILPOINT": place, "WHERRY_FAILPOINT_ONCE": str(self.once)}
        self.daemon = DaemonProcess(home, env)
        self.session = Session(home)
        dead = Session(home)
        dead.artifact().add("never logged", b"x" * 100)
        dead.close()
        self.dead = dead.path
        self.done: list[LoggedArtifact] = []
        self.held = self.session.artifact("held", offline=True).add("x", b"held")

    def persist(self, act: Callable[[Caller], T]) -> T:
        """Do it, with a daemon that is started again when it was killed."""
        for _ in range(4):
            try:
                self.daemon.wait_ready()
                with self.daemon.caller() as caller:
                    return act(caller)
            except (grpc.RpcError, DaemonEnded, AssertionError):
                self.daemon.kill()
                self.daemon.start(wait=False)
        raise AssertionError(f"no answer in four tries:\n{self.daemon.log()}")

    def log(self, artifact: LoggedArtifact) -> LoggedArtifact:
        """Log an artifact; the same stream again where the answer did not come."""
        self.persist(artifact.log)
        return artifact

    def wait_ended(self, *artifacts: LoggedArtifact) -> list[pb.RequestState]:
        """Wait until requests have ended; their last states."""
        wanted = pb.WaitRequest(request_ids=[artifact.id for artifact in artifacts])

        def wait(caller: Caller) -> dict[str, pb.RequestState]:
            told = cast("list[pb.RequestState]", list(caller.stream("Wait", wanted)))
            return {state.request_id: state for state in told}

        ended = self.persist(wait)
        return [ended[artifact.id] for artifact in artifacts]

    def select(self, call: str, artifact: LoggedArtifact) -> None:
        """What a user says of a request; said again where the answer did not come."""
        self.persist(lambda caller: caller.call(call, pb.SelectRequest(request_ids=[artifact.id])))

    def end(self) -> None:
        """SIGTERM, until the daemon has ended by itself."""
        for _ in range(3):
            if self.daemon.terminate() == 0:
                return
            self.daemon.start()
        raise AssertionError(f"the daemon does not end:\n{self.daemon.log()}")


@pytest.mark.soak
@pytest.mark.parametrize("place", _PLACES)
def test_kill_loses_or_doubles_a_request(home: Path, place: str) -> None:
    """Wherever the daemon is killed: what was logged arrives once and in order, what can't fails
    alone, and nothing is left in the spool but what is still needed.
    """
    history = History(home, place)
    try:
        history.daemon.start(wait=False)
        _live(history)
        history.end()
        assert history.once.exists(), f"{place} was not come by"
        _check(history)
    finally:
        history.daemon.kill()


#: More than go into the queue together with the manifest.
_MANY = {f"many/{number:02}": b"%d" % number for number in range(FEW)}


def _live(history: History) -> None:
    session = history.session
    history.done = artifacts = [
        session.artifact(metadata=b'{"n":%d}' % n, aliases=["best"])
        .add("large", os.urandom(1_100_000))
        .add_packed({"a": b"%d" % n, "b": b"same", **_MANY})
        for n in range(2)
    ]
    for artifact in artifacts:
        history.log(artifact)
    lost = history.log(session.artifact("lost").add_reference("x", "file:///no/such/file"))
    changed = session.artifact("changed").add("x", b"captured")
    changed.entries["x"].digest = f"sha256:{'0' * 64}"
    history.log(changed)
    held = history.log(history.held)
    cancelled = history.log(session.artifact("cancelled", offline=True).add("x", b"not wanted"))
    history.select("Cancel", cancelled)
    states = history.wait_ended(*artifacts, lost, changed, cancelled)
    assert [state.state for state in states] == ["done", "done", "failed", "failed", "cancelled"]
    assert [state.version for state in states[:2]] == [0, 1]
    assert [state.error for state in states[2:4]] == ["ReferenceFailed", "FileChanged"]
    if SOAK:
        history.select("Retry", lost)
        assert history.wait_ended(lost)[0].state == "failed"
    history.select("Acknowledge", lost)
    if SOAK:
        history.log(artifacts[0])  # as by a client that missed the answer
        link = pb.LinkRequest(request_id=held.id, run=pb.Run(id="other"))
        history.persist(lambda caller: caller.call("Link", link))
        history.select("Sync", held)
        assert history.wait_ended(held)[0].state == "done"
    _wait_freed(history)


def _wait_freed(history: History) -> None:
    """The daemon frees at once, after it has told the end; a further request comes after that."""
    ended = [*history.done, history.held] if SOAK else history.done
    folders = [artifact.folder for artifact in ended]
    for number in range(100):
        if not any(folder.exists() for folder in folders) and not history.dead.exists():
            return
        history.wait_ended(history.log(history.session.artifact(f"after{number}").add("x", b"1")))
    raise AssertionError("the spool is not freed")


def _check(history: History) -> None:
    home = history.home
    records = read_store(home, "cats", "model")
    assert [record["version"] for record in records] == [0, 1]
    assert [record["metadata"] for record in records] == [{"n": 0}, {"n": 1}]
    assert read_store(home, "cats", "lost") == read_store(home, "cats", "changed") == []
    assert history.held.folder.exists() != SOAK
    manifests = os.listdir(home / "spool" / "manifests")
    assert [name for name in manifests if name.endswith(".tmp")] == []
