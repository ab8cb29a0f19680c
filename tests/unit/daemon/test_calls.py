"""The calls of a running daemon, made with a stock gRPC client."""

from __future__ import annotations

import stat
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.daemon import Caller, DaemonProcess, LoggedArtifact, Session, read_store
from wherry import errors
from wherry.wire import PROTOCOL
from wherry.wire import wherry_pb2 as pb
from wherry.wire.transport import Transport


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    """One daemon for all tests here; each uses names of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="wherry-") as root,
        DaemonProcess(Path(root) / "home") as daemon,
    ):
        yield daemon


@pytest.fixture
def caller(daemon: DaemonProcess) -> Iterator[Caller]:
    """A connection."""
    with daemon.caller() as caller:
        yield caller


@pytest.fixture
def session(daemon: DaemonProcess) -> Iterator[Session]:
    """A session that a process holds."""
    session = Session(daemon.home)
    yield session
    session.close()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses."""
    return f"n{uuid.uuid4().hex[:12]}"


def _states(caller: Caller, **wanted: object) -> list[pb.RequestState]:
    request = pb.ListRequestsRequest(**wanted)
    return cast("list[pb.RequestState]", list(caller.stream("ListRequests", request)))


def _state(caller: Caller, artifact: LoggedArtifact) -> pb.RequestState:
    request = pb.WaitRequest(request_ids=[artifact.id])
    stream = caller.stream("Wait", request)
    state = next(stream)
    stream.close()  # type: ignore[attr-defined]
    return cast("pb.RequestState", state)


def _select(caller: Caller, call: str, **wanted: object) -> pb.CountReply:
    return cast("pb.CountReply", caller.call(call, pb.SelectRequest(**wanted)))


# ── meeting ────────────────────────────────────────────────────────────────────────────────────
def test_hello_hides_who_it_is(daemon: DaemonProcess, caller: Caller) -> None:
    """Hello says protocol, version, pid, home and its id."""
    hello = cast("pb.HelloReply", caller.call("Hello", pb.HelloRequest(protocol=99)))
    assert (hello.protocol, hello.pid, hello.home) == (PROTOCOL, daemon.pid, str(daemon.home))
    assert hello.home_id
    assert hello.version
    assert not hello.draining


def test_health_is_unknown(daemon: DaemonProcess) -> None:
    """The standard health service answers for the server and for the service."""
    with grpc.insecure_channel(f"unix:{daemon.socket}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "wherry.v1.Daemon"):
            reply = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            assert reply.status == health_pb2.HealthCheckResponse.SERVING


def test_socket_is_open_to_others(daemon: DaemonProcess) -> None:
    """Home and spool are the user's alone, and so are socket, queue and lock."""
    for folder in (daemon.home, daemon.home / "spool", daemon.home / "spool" / "sessions"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for file in ("daemon.sock", "queue.db", "daemon.lock"):
        assert stat.S_IMODE((daemon.home / file).stat().st_mode) == 0o600


# ── logging ────────────────────────────────────────────────────────────────────────────────────
def test_logged_artifacts_lose_their_order(
    daemon: DaemonProcess, caller: Caller, session: Session, name: str
) -> None:
    """Ten artifacts become v0 to v9 in order, with their bytes, whatever their sizes."""
    logged = []
    for number in range(10):
        artifact = session.artifact(name, metadata=b'{"index":%d}' % number)
        artifact.add("big", bytes([number]) * (200_000 * (10 - number)))
        places = artifact.add_packed({"s/1": b"1", "s/2": b"2"}).log(caller).place
        logged.append((artifact, places))
    ended = daemon.wait_done([artifact.id for artifact, _ in logged])
    assert [ended[artifact.id].version for artifact, _ in logged] == list(range(10))
    assert [place for _, place in logged] == sorted(place for _, place in logged)
    records = read_store(daemon.home, "cats", name)
    assert [record["metadata"] for record in records] == [{"index": n} for n in range(10)]


def test_version_can_not_be_read_back(
    daemon: DaemonProcess, caller: Caller, session: Session, name: str
) -> None:
    """GetVersion, ReadManifest and ReadFiles give back what was logged."""
    files = {"a/1": b"one", "a/2": b"", "b": b"x" * 3_000_000}
    artifact = session.artifact(name, aliases=["best"], description="what it is", tags=["t"])
    for path, data in files.items():
        artifact.add(path, data)
    artifact.log(caller)
    daemon.wait_done([artifact.id])
    asked = pb.GetVersionRequest(project="cats", name=name, version="best")
    version = cast("pb.Version", caller.call("GetVersion", asked))
    assert (version.version, version.description) == (0, "what it is")
    assert (version.entries, version.size, list(version.tags)) == (3, 3_000_003, ["t"])
    assert list(version.aliases) == ["best", "latest"]
    manifest = pb.ReadManifestRequest(project="cats", manifest=version.manifest)
    batches = cast("list[pb.EntryBatch]", list(caller.stream("ReadManifest", manifest)))
    assert [entry.path for batch in batches for entry in batch.entries] == sorted(files)
    read: dict[str, bytes] = {}
    path = ""
    wanted = pb.ReadFilesRequest(project="cats", manifest=version.manifest)
    for chunk in cast("list[pb.FileChunk]", list(caller.stream("ReadFiles", wanted))):
        path = chunk.path or path
        read[path] = read.get(path, b"") + chunk.data
    assert read == files


def test_same_stream_twice_is_two_requests(
    daemon: DaemonProcess, caller: Caller, session: Session, name: str
) -> None:
    """A stream sent again gives the first answer, cut into other messages too."""
    artifact = session.artifact(name).add_packed({f"{n:03d}": b"%d" % n for n in range(20)})
    first = artifact.log(caller)
    daemon.wait_done([artifact.id])
    again = cast("pb.LogReply", caller.send("Log", artifact.messages(batch=3)))
    assert again == first
    assert cast("pb.LogReply", caller.send("Log", artifact.whole())) == first
    assert len(read_store(daemon.home, "cats", name)) == 1


def test_stream_of_requests_is_one(
    daemon: DaemonProcess, caller: Caller, session: Session, name: str
) -> None:
    """Small requests on one stream each get their place, in order; an error ends it, and takes nothing
    back; what was logged before, in whichever way, is the same request.
    """
    made = [session.artifact(name).add("a", b"%d" % n) for n in range(5)]
    first = made[0].log(caller)
    wholes = [message.whole for artifact in made for message in artifact.whole()]
    broken = pb.LogWhole()
    broken.CopyFrom(wholes[1])
    broken.header.request_id = str(uuid.uuid4())
    broken.end.entries = 2
    answers: list[pb.LogReply] = []
    with pytest.raises(errors.ProtocolError, match="2 entries"):
        answers.extend(caller.exchange("LogMany", [*wholes[:3], broken, *wholes[3:]]))
    assert answers[0] == first
    assert [answer.request_id for answer in answers] == [artifact.id for artifact in made[:3]]
    again = list(caller.exchange("LogMany", wholes))
    assert again[:3] == answers
    assert sorted(answer.place for answer in again) == [answer.place for answer in again]
    daemon.wait_done([artifact.id for artifact in made])
    assert len(read_store(daemon.home, "cats", name)) == 5


def test_idle_client_has_to_answer(daemon: DaemonProcess, session: Session, name: str) -> None:
    """After an answer the daemon asks nothing: a program that trains for an hour would not hear it, and be
    cut off.
    """
    transport = Transport(daemon.socket)
    try:
        for n in range(20):
            (message,) = session.artifact(name, metadata=b'{"n": "%s"}' % (b"x" * 20_000)).whole()
            transport.exchange("/wherry.v1.Daemon/LogMany", message.whole.SerializeToString(), 30)
            assert not transport._poll.poll(30), f"after {n} answers"
    finally:
        transport.close()


def test_same_id_with_another_body_is_taken(caller: Caller, session: Session, name: str) -> None:
    """An id that was seen before with another body is an error."""
    artifact = session.artifact(name).add("a", b"1")
    artifact.log(caller)
    artifact.add("b", b"2")
    with pytest.raises(errors.RequestIdTaken):
        artifact.log(caller)


def test_cut_stream_is_taken(caller: Caller, session: Session, name: str) -> None:
    """A stream without its end, without its header, or that promises more than came is no request."""
    messages = list(session.artifact(name).add("a", b"1").messages())
    (whole,) = session.artifact(name).add("a", b"1").whole()
    whole.whole.end.entries = 2
    for cut in (messages[:-1], messages[1:], [], [messages[0], *messages], [whole]):
        with pytest.raises(errors.ProtocolError):
            caller.send("Log", cut)
    assert _states(caller, name=name) == []


def test_broken_connection_leaves_a_request(
    daemon: DaemonProcess, session: Session, name: str
) -> None:
    """A client that goes away in the middle of its stream has logged nothing."""
    messages = list(session.artifact(name).add("a", b"1").messages())
    go_on = threading.Event()

    def hang() -> Iterator[pb.LogMessage]:
        yield from messages[:2]
        go_on.wait(30)

    with daemon.caller() as broken, pytest.raises((grpc.RpcError, errors.WherryError)):
        broken.send("Log", hang(), timeout_s=0.5)
    go_on.set()
    with daemon.caller() as caller:
        assert _states(caller, name=name) == []


@pytest.mark.parametrize(
    ("header", "error"),
    [
        ({"name": "a/b"}, errors.BadName),
        ({"project": ".."}, errors.BadName),
        ({"type": ""}, errors.BadName),
        ({"aliases": ["v3"]}, errors.BadName),
        ({"metadata": b"[1]"}, errors.BadMetadata),
        ({"metadata": b"{nope"}, errors.BadMetadata),
        ({"metadata": b'{"a":"' + b"x" * (1 << 20) + b'"}'}, errors.BadMetadata),
        ({"store": "ftp://host/x"}, errors.BadURI),
        ({"request_id": "../../etc"}, errors.ProtocolError),
        ({"session": ".."}, errors.ProtocolError),
        ({"folder": "../other"}, errors.ProtocolError),
    ],
)
def test_bad_header_is_taken(
    caller: Caller, session: Session, name: str, header: dict[str, object], error: type[Exception]
) -> None:
    """What can't be is refused at the call, with the class that says why."""
    artifact = session.artifact(name)
    for field, value in header.items():
        if isinstance(value, list):
            getattr(artifact.header, field).extend(value)
        else:
            setattr(artifact.header, field, value)
    with pytest.raises(error):
        artifact.log(caller)


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        (pb.Entry(path="../x", captured=pb.Captured(file="f")), errors.BadPath),
        (pb.Entry(path="x"), errors.ProtocolError),
        (pb.Entry(path="x", size=-1, captured=pb.Captured(file="f")), errors.ProtocolError),
        (pb.Entry(path="x", captured=pb.Captured(file="../../f")), errors.ProtocolError),
        (pb.Entry(path="x", captured=pb.Captured(file="f", offset=-1)), errors.ProtocolError),
        (pb.Entry(path="x", in_place=pb.InPlace(file="rel")), errors.ProtocolError),
        (pb.Entry(path="x", digest="md5:1", captured=pb.Captured(file="f")), errors.ProtocolError),
        (pb.Entry(path="x", size=1, captured=pb.Captured(file="gone")), errors.FileMissing),
        (pb.Entry(path="x", reference=pb.Reference()), errors.BadURI),
    ],
)
def test_bad_entry_is_taken(
    caller: Caller, session: Session, name: str, entry: pb.Entry, error: type[Exception]
) -> None:
    """An entry that can't be is refused at the call, and nothing is queued."""
    artifact = session.artifact(name)
    artifact.entries[entry.path] = entry
    with pytest.raises(error):
        artifact.log(caller)
    assert _states(caller, name=name) == []


def test_name_of_another_type_is_taken(
    daemon: DaemonProcess, caller: Caller, session: Session, name: str
) -> None:
    """A name belongs to one type for ever."""
    first = session.artifact(name, type="model").add("a", b"1")
    first.log(caller)
    daemon.wait_done([first.id])
    with pytest.raises(errors.TypeTaken):
        session.artifact(name, type="dataset").add("a", b"1").log(caller)


def test_link_of_an_unknown_request_is_taken(caller: Caller) -> None:
    """A run can be linked to a request that is known, and to no other."""
    with pytest.raises(errors.NotFoundError):
        caller.call("Link", pb.LinkRequest(request_id=str(uuid.uuid4()), run=pb.Run(id="r")))


def test_linked_run_waits_for_nothing(caller: Caller, session: Session, name: str) -> None:
    """A run that is linked to a request waits for it like the one that logged it."""
    artifact = session.artifact(name).add("a", b"1")
    artifact.log(caller)
    run = f"run-{name}"
    caller.call("Link", pb.LinkRequest(request_id=artifact.id, run=pb.Run(id=run)))
    told = list(caller.stream("Wait", pb.WaitRequest(run_ids=[run])))
    assert cast("pb.RequestState", told[-1]).request_id == artifact.id
    assert cast("pb.RequestState", told[-1]).state == "done"


def test_request_of_two_runs_is_a_defect(caller: Caller, session: Session, name: str) -> None:
    """What two runs are linked to is waited for once, by both together."""
    artifact = session.artifact(name).add("a", b"1")
    artifact.log(caller)
    runs = [f"run-{name}", f"other-{name}"]
    for run in runs:
        caller.call("Link", pb.LinkRequest(request_id=artifact.id, run=pb.Run(id=run)))
    told = cast("list[pb.RequestState]", list(caller.stream("Wait", pb.WaitRequest(run_ids=runs))))
    assert [each.state for each in told if each.last] == ["done"]


def test_held_requests_of_a_run_are_waited_for(caller: Caller, session: Session, name: str) -> None:
    """Wait tells once what offline mode holds of some runs, and ends when all else of them has ended."""
    runs, sent = [f"run-{name}", f"other-{name}"], session.artifact(name).add("a", b"1")
    sent.log(caller)
    held = session.artifact(f"{name}-held", offline=True).add("a", b"1")
    held.log(caller)
    for run, artifact in zip(runs, (sent, held), strict=True):
        caller.call("Link", pb.LinkRequest(request_id=artifact.id, run=pb.Run(id=run)))
    stream = caller.stream("Wait", pb.WaitRequest(run_ids=runs, every_s=0.01))
    told = cast("list[pb.RequestState]", list(stream))
    assert [each.state for each in told if each.request_id == held.id] == ["held"]
    assert {each.request_id: each.state for each in told}[sent.id] == "done"


# ── telling ────────────────────────────────────────────────────────────────────────────────────
def test_wait_misses_the_end(caller: Caller, session: Session, name: str) -> None:
    """Wait tells states in their order, the last one marked, and ends when all have ended."""
    artifact = session.artifact(name).add("a", b"1" * 1000)
    artifact.log(caller)
    stream = caller.stream("Wait", pb.WaitRequest(request_ids=[artifact.id]))
    told = cast("list[pb.RequestState]", list(stream))
    order = ["accepted", "prepared", "uploaded", "sending", "settled", "done"]
    states = [state.state for state in told]
    assert states == sorted(states, key=order.index)
    assert [state.last for state in told] == [False] * (len(told) - 1) + [True]
    end = told[-1]
    assert (end.state, end.version, end.bytes_done, end.size) == ("done", 0, 1000, 1000)
    assert (end.project, end.name, end.type, end.ahead) == ("cats", name, "model", 0)
    assert end.digest.startswith("sha256:")


def test_wait_for_unknown_requests_hangs(caller: Caller) -> None:
    """Nothing is told of ids that the queue does not know."""
    unknown = pb.WaitRequest(request_ids=[str(uuid.uuid4())])
    assert list(caller.stream("Wait", unknown, timeout_s=10)) == []
    assert list(caller.stream("Wait", pb.WaitRequest(run_ids=["nobody"]), timeout_s=10)) == []


def test_wait_tells_only_once(caller: Caller, session: Session, name: str) -> None:
    """With `every_s` a state that does not change is told again and again."""
    held = session.artifact(name, offline=True).add("a", b"1")
    held.log(caller)
    stream = caller.stream("Wait", pb.WaitRequest(request_ids=[held.id], every_s=0.05))
    told = [cast("pb.RequestState", next(stream)) for _ in range(3)]
    assert {state.state for state in told} == {"held"}
    stream.close()  # type: ignore[attr-defined]


def test_list_shows_other_requests(caller: Caller, session: Session, name: str) -> None:
    """Requests are listed by state, project and name; done ones only when asked for."""
    held = [session.artifact(name, offline=True).add("a", b"%d" % n) for n in range(3)]
    for artifact in held:
        artifact.log(caller)
    assert [state.request_id for state in _states(caller, name=name)] == [a.id for a in held]
    assert len(_states(caller, name=name, limit=2)) == 2
    assert _states(caller, name=name, states=["done"]) == []
    assert _states(caller, name=name, project="dogs") == []
    with pytest.raises(errors.UsageError, match="accepted"):
        _states(caller, states=["nonsense"])


# ── choosing ───────────────────────────────────────────────────────────────────────────────────
def test_offline_requests_go_by_themselves(
    daemon: DaemonProcess, caller: Caller, session: Session, name: str
) -> None:
    """Held requests have no place until they are synced, and then go in the order of logging."""
    held = [session.artifact(name, offline=True).add("a", b"%d" % n) for n in range(3)]
    assert [artifact.log(caller).place for artifact in held] == [0, 0, 0]
    assert _state(caller, held[0]).state == "held"
    assert _select(caller, "Sync", name=name).count == 3
    ended = daemon.wait_done([artifact.id for artifact in held])
    assert [ended[artifact.id].version for artifact in held] == [0, 1, 2]


def test_cancelled_request_is_committed(caller: Caller, session: Session, name: str) -> None:
    """A held request can be cancelled; one that is done can not, and the answer says why."""
    held = session.artifact(name, offline=True).add("a", b"1")
    done = session.artifact(name).add("a", b"2")
    unknown = str(uuid.uuid4())
    held.log(caller)
    done.log(caller)
    list(caller.stream("Wait", pb.WaitRequest(request_ids=[done.id])))
    answer = _select(caller, "Cancel", request_ids=[held.id, done.id, unknown])
    assert answer.count == 1
    assert sorted(answer.left_out) == sorted([f"{done.id}: it is done", f"{unknown}: not known"])
    assert _state(caller, held).state == "cancelled"


@pytest.mark.parametrize(("call", "offline"), [("Cancel", True), ("Sync", True), ("Retry", False)])
def test_word_that_is_said_again_is_an_error(
    caller: Caller, session: Session, name: str, call: str, offline: bool
) -> None:
    """What a client says again, as it missed the answer, is not counted and not complained of."""
    artifact = session.artifact(name, offline=offline).add("a", b"1")
    artifact.log(caller)
    if not offline:
        list(caller.stream("Wait", pb.WaitRequest(request_ids=[artifact.id])))
    else:
        assert _select(caller, call, request_ids=[artifact.id]).count == 1
    answer = _select(caller, call, request_ids=[artifact.id])
    assert (answer.count, list(answer.left_out)) == (0, [])


def test_failed_request_is_gone_for_ever(
    daemon: DaemonProcess, caller: Caller, session: Session, name: str, tmp_path: Path
) -> None:
    """A failure is shown until acknowledged; a retry gives it a new place, and it can succeed."""
    missing = tmp_path / "data"
    artifact = session.artifact(name).add_reference("data", f"file://{missing}")
    first_place = artifact.log(caller).place
    ended = daemon.wait_done([artifact.id])[artifact.id]
    assert (ended.state, ended.error) == ("failed", "ReferenceFailed")
    assert str(missing) in ended.reason
    status = cast("pb.StatusReply", caller.call("Status", pb.StatusRequest()))
    assert artifact.id in {request.request_id for request in status.requests}
    missing.write_bytes(b"here it is")
    assert _select(caller, "Retry", request_ids=[artifact.id]).count == 1
    ended = daemon.wait_done([artifact.id])[artifact.id]
    assert (ended.state, ended.version, ended.size) == ("done", 0, 10)
    assert ended.place > first_place


def test_acknowledged_failure_comes_back(
    daemon: DaemonProcess, caller: Caller, session: Session, name: str, tmp_path: Path
) -> None:
    """A failure that was acknowledged is shown no more, and no retry brings it back."""
    artifact = session.artifact(name).add_reference("data", f"file://{tmp_path}/data")
    artifact.log(caller)
    daemon.wait_done([artifact.id])
    assert _select(caller, "Acknowledge", request_ids=[artifact.id]).count == 1
    status = cast("pb.StatusReply", caller.call("Status", pb.StatusRequest()))
    assert artifact.id not in {request.request_id for request in status.requests}
    assert _select(caller, "Retry", project="cats", name=name).count == 0
    named = _select(caller, "Retry", request_ids=[artifact.id])
    assert named.count == 0
    assert "was acknowledged" in named.left_out[0] and "log it again" in named.left_out[0]
    assert _select(caller, "Acknowledge", project="cats", name=name).count == 0
    again = _select(caller, "Acknowledge", request_ids=[artifact.id])
    assert (again.count, list(again.left_out)) == (0, [])
    listed = caller.stream("ListRequests", pb.ListRequestsRequest(project="cats", name=name))
    assert list(listed) == []


def test_failures_are_hidden_behind_open_requests(
    daemon: DaemonProcess, caller: Caller, session: Session, name: str, tmp_path: Path
) -> None:
    """Status names what failed also where more requests than it shows came before and are not done."""
    held = [session.artifact(name, offline=True) for _ in range(1001)]
    for artifact in held:
        artifact.log(caller)
    failed = session.artifact(f"{name}-bad").add_reference("data", f"file://{tmp_path}/data")
    failed.log(caller)
    daemon.wait_done([failed.id])
    status = cast("pb.StatusReply", caller.call("Status", pb.StatusRequest()))
    assert len(status.requests) == 1000
    assert failed.id in {request.request_id for request in status.requests}
    _select(caller, "Cancel", project="cats", name=name)
    _select(caller, "Acknowledge", request_ids=[failed.id])


@pytest.mark.parametrize("call", ["Retry", "Cancel", "Acknowledge", "Sync"])
def test_nothing_named_means_all(caller: Caller, call: str) -> None:
    """Whoever means all says so."""
    with pytest.raises(errors.UsageError):
        _select(caller, call)


def test_part_of_an_id_is_not_found(caller: Caller, session: Session, name: str) -> None:
    """A request is found by the end of its id, also when it has ended."""
    artifact = session.artifact(name).add("a", b"1")
    artifact.log(caller)
    list(caller.stream("Wait", pb.WaitRequest(request_ids=[artifact.id])))
    asked = pb.ListRequestsRequest(id_part=artifact.id[-12:])
    (found,) = cast("list[pb.RequestState]", list(caller.stream("ListRequests", asked)))
    assert (found.request_id, found.state) == (artifact.id, "done")


# ── reading ────────────────────────────────────────────────────────────────────────────────────
def test_listings_are_empty(
    daemon: DaemonProcess, caller: Caller, session: Session, name: str
) -> None:
    """Versions are listed newest first, and the project's artifacts by name."""
    logged = [session.artifact(name).add("a", b"%d" % n) for n in range(3)]
    for artifact in logged:
        artifact.log(caller)
    daemon.wait_done([artifact.id for artifact in logged])
    asked = pb.ListVersionsRequest(project="cats", name=name)
    versions = cast("list[pb.Version]", list(caller.stream("ListVersions", asked)))
    assert [version.version for version in versions] == [2, 1, 0]
    artifacts = cast(
        "list[pb.ArtifactName]",
        list(caller.stream("ListArtifacts", pb.ListArtifactsRequest(project="cats"))),
    )
    assert [(a.type, a.latest) for a in artifacts if a.name == name] == [("model", 2)]


def test_unknown_artifact_is_a_crash(caller: Caller, name: str) -> None:
    """What is not there is a NotFoundError that names it, as status and as class."""
    with pytest.raises(errors.NotFoundError, match=name):
        caller.call("GetVersion", pb.GetVersionRequest(project="cats", name=name))


def test_unknown_store_is_a_crash(caller: Caller, name: str, tmp_path: Path) -> None:
    """A store that is not there is told as that."""
    store = f"file://{tmp_path}/nowhere/store"
    with pytest.raises(errors.StoreError):
        caller.call("GetVersion", pb.GetVersionRequest(store=store, project="cats", name=name))
