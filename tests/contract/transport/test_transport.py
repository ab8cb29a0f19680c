"""The client's transport against a stock grpcio server."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from h2.exceptions import StreamClosedError

from wherry import errors
from wherry.wire import wherry_pb2 as pb
from wherry.wire.dial import NobodyListens
from wherry.wire.http2 import Http2
from wherry.wire.status import ConnectionLost
from wherry.wire.transport import Transport

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from tests.contract.transport.conftest import Server

SERVICE = "/wherry.v1.Daemon/"


@pytest.fixture
def transport(server: Server) -> Iterator[Transport]:
    """Connect for one test."""
    made = Transport(server.socket)
    yield made
    made.close()


def get_version(transport: Transport, timeout_s: float | None = 30, **fields: str) -> pb.Version:
    """Make a unary call."""
    request = pb.GetVersionRequest(**fields).SerializeToString()
    return pb.Version.FromString(
        transport.unary_reply(SERVICE + "GetVersion", [request], timeout_s)
    )


def log(transport: Transport, messages: Iterator[Message], timeout_s: float = 60) -> pb.LogReply:
    """Make a client-stream call."""
    sent = (message.SerializeToString() for message in messages)
    return pb.LogReply.FromString(transport.unary_reply(SERVICE + "Log", sent, timeout_s))


def exchange(transport: Transport, size: int = 1, name: str = "", timeout_s: float = 30) -> int:
    """Send one of many messages; returns the answer's count of bytes."""
    whole = pb.LogWhole(
        header=pb.LogHeader(request_id="r", name=name),
        entries=pb.EntryBatch(entries=[pb.Entry(path="x" * size)]),
    )
    answer = transport.exchange(SERVICE + "LogMany", whole.SerializeToString(), timeout_s)
    return pb.LogReply.FromString(answer).place


def entries(size: int, count: int = 1, name: str = "") -> Iterator[pb.LogMessage]:
    """Make a header and messages of ``size`` bytes and a few."""
    yield pb.LogMessage(header=pb.LogHeader(request_id="r", name=name))
    for _ in range(count):
        yield pb.LogMessage(entries=pb.EntryBatch(entries=[pb.Entry(path="x" * size)]))


def test_unary_call_is_not_answered(transport: Transport) -> None:
    """A unary call gives the server's answer, many times on one connection."""
    for text in ("a", "日本語 é", ""):
        assert get_version(transport, name=text, type="t").name == text
    assert transport.usable()


@pytest.mark.parametrize("size", [0, 1, 16_384, 70_000, 10_000_000])
def test_large_message_is_damaged(transport: Transport, size: int) -> None:
    """Messages of any size go both ways whole, over many frames."""
    assert len(get_version(transport, name="x" * size).name) == size


def test_many_small_messages_are_lost(transport: Transport) -> None:
    """100,000 small messages in one stream all arrive."""
    assert log(transport, entries(7, 100_000)).place == 700_000


def test_stream_larger_than_windows_stalls(transport: Transport) -> None:
    """A client stream and a server stream may be far larger than any window."""
    assert log(transport, entries(1_000_000, 60)).place == 60_000_000
    request = pb.ReadFilesRequest(paths=["3000000", "1", "0"] * 10).SerializeToString()
    replies = transport.replies(SERVICE + "ReadFiles", [request], 30)
    sizes = [len(pb.FileChunk.FromString(reply).data) for reply in replies]
    assert sizes == [3_000_000, 1, 0] * 10


def test_exchanges_get_each_others_answers(transport: Transport) -> None:
    """Many messages of all sizes on one stream each get their own answer, with other calls in between."""
    for size in [*range(300), 16_384, 70_000, 10_000_000, 1]:
        assert exchange(transport, size) == size
        if size % 50 == 0:
            assert get_version(transport, name="other").name == "other"
            assert log(transport, entries(size)).place == size
    assert transport.usable()


def test_refused_exchange_spoils_the_next(transport: Transport) -> None:
    """An error ends the stream of exchanges; the next one begins another on the same connection."""
    for _ in range(3):
        assert exchange(transport, 7) == 7
        with pytest.raises(errors.TypeTaken, match="another type – é") as caught:
            exchange(transport, name="refuse")
        assert caught.value.hint == "Choose another."
        assert transport.usable()


def test_late_answer_is_the_next_ones(transport: Transport) -> None:
    """When an exchange's time is over the connection is closed: its answer can't be another's."""
    assert exchange(transport, 7) == 7
    with pytest.raises(errors.WaitTimeoutError, match="LogMany"):
        exchange(transport, name="slow", timeout_s=0.1)
    assert not transport.is_open
    with pytest.raises(ConnectionLost):
        exchange(transport, 7)


def test_empty_stream_is_an_error(transport: Transport) -> None:
    """A server stream without answers and a client stream without messages are fine."""
    request = pb.WaitRequest().SerializeToString()
    assert list(transport.replies(SERVICE + "Wait", [request], 30)) == []
    assert log(transport, iter(())).place == 0


def test_error_of_ours_changes_on_the_way(transport: Transport) -> None:
    """An error named in the trailers comes out as that class, its text and hint as they were."""
    with pytest.raises(errors.TypeTaken) as caught:
        get_version(transport, version="error:TypeTaken", name="é 100 %41 \n – x\n  do this")
    assert caught.value.message == "é 100 %41 \n – x"
    assert caught.value.hint == "do this"
    assert get_version(transport, name="next").name == "next"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("NOT_FOUND", errors.NotFoundError),
        ("INVALID_ARGUMENT", errors.UsageError),
        ("UNAVAILABLE", ConnectionLost),
        ("DEADLINE_EXCEEDED", errors.WaitTimeoutError),
        ("INTERNAL", errors.CommError),
        ("UNAUTHENTICATED", errors.CommError),
    ],
)
def test_plain_status_is_taken_for_success(
    transport: Transport, code: str, expected: type[Exception]
) -> None:
    """A status without our class becomes the nearest one, and the connection goes on."""
    with pytest.raises(expected):
        get_version(transport, version=f"code:{code}", name="why")
    assert get_version(transport, name="next").name == "next"


def test_exception_in_the_server_is_hidden(transport: Transport) -> None:
    """A server's own bug comes out with its text."""
    with pytest.raises(errors.CommError, match="the bug"):
        get_version(transport, version="raise:", name="the bug")


def test_unknown_call_is_not_explained(transport: Transport) -> None:
    """A call that the daemon does not know says that it is too old."""
    with pytest.raises(errors.DaemonTooOld, match="Fly"):
        transport.unary_reply(SERVICE + "Fly", [b""], 30)


def test_refusal_is_only_seen_at_the_end(transport: Transport) -> None:
    """A server may refuse in the middle of a stream: the rest is not sent, the error is its own."""
    sent = 0

    def endless() -> Iterator[pb.LogMessage]:
        nonlocal sent
        for message in entries(100_000, 1_000_000, name="refuse"):
            sent += 1
            yield message

    with pytest.raises(errors.TypeTaken, match="another type – é"):
        log(transport, endless())
    assert sent < 1_000_000
    assert get_version(transport, name="next").name == "next"


def test_silent_server_is_waited_for(transport: Transport) -> None:
    """At the deadline a call ends with WaitTimeoutError, whoever notices first."""
    with pytest.raises(errors.WaitTimeoutError, match="GetVersion"):
        get_version(transport, timeout_s=0.1, version="slow:60")


def test_deadline_is_missed_in_a_silence(transport: Transport) -> None:
    """The deadline holds for a server stream that falls silent."""
    hang = pb.WaitRequest(every_s=3, request_ids=["hang"]).SerializeToString()
    replies = transport.replies(SERVICE + "Wait", [hang], 0.2)
    assert [next(replies) for _ in range(3)]
    with pytest.raises(errors.WaitTimeoutError):
        next(replies)


@pytest.mark.parametrize("taken", [0, 1, 20])
def test_left_stream_spoils_the_connection(transport: Transport, taken: int) -> None:
    """Closing a server stream before its end cancels the call, and the next one is served."""
    request = pb.ReadFilesRequest(paths=["300000"] * 1000).SerializeToString()
    for _ in range(20):
        replies = transport.replies(SERVICE + "ReadFiles", [request], None)
        for _ in range(taken):
            next(replies)
        replies.close()
        assert transport.usable()
        assert get_version(transport, name="next").name == "next"


def test_cancelled_call_goes_on(start_server: Callable[..., Server]) -> None:
    """The server learns that a call was cancelled: it can leave before its time."""
    server = start_server("grace=60")
    transport = Transport(server.socket)
    hang = pb.WaitRequest(every_s=1, request_ids=["hang"]).SerializeToString()
    replies = transport.replies(SERVICE + "Wait", [hang], None)
    next(replies)
    replies.close()
    server.leave()
    while transport.usable():
        time.sleep(0.01)
    transport.close()
    server.wait_gone()


def test_error_in_the_messages_is_swallowed(transport: Transport) -> None:
    """What the messages' iterator raises comes out, and the server sees no whole stream."""

    def broken() -> Iterator[pb.LogMessage]:
        yield from entries(10)
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        log(transport, broken())
    assert not transport.usable()


def test_leaving_server_cuts_a_call_off(start_server: Callable[..., Server]) -> None:
    """After GOAWAY the call under way gets its answer, and no further call is made."""
    server = start_server()
    transport = Transport(server.socket)
    threading.Timer(0.2, server.leave).start()
    assert get_version(transport, version="slow:0.8", name="last").name == "last"
    assert not transport.usable()
    transport.close()
    server.wait_gone()
    with pytest.raises(NobodyListens):
        Transport(server.socket)


@pytest.mark.parametrize("is_exchanging", [False, True])
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_idle_connection_of_a_gone_server_seems_usable(
    start_server: Callable[..., Server], end: signal.Signals, is_exchanging: bool
) -> None:
    """A connection that waited while its server left, or was killed, says so before the next call."""
    server = start_server("grace=0.1")
    transport = Transport(server.socket)
    get_version(transport)
    if is_exchanging:
        exchange(transport)
    server.process.send_signal(end)
    server.process.wait()
    assert not transport.usable()
    transport.close()


def test_killed_server_is_waited_for(start_server: Callable[..., Server]) -> None:
    """When the server ends in the middle of a call, the call ends with ConnectionLost."""
    server = start_server()
    transport = Transport(server.socket)
    threading.Timer(0.2, server.process.kill).start()
    with pytest.raises(ConnectionLost):
        get_version(transport, timeout_s=None, version="slow:60")
    transport.close()


def test_killed_server_is_waited_for_in_an_exchange(start_server: Callable[..., Server]) -> None:
    """When the server ends in the middle of an exchange, it ends with ConnectionLost."""
    server = start_server()
    transport = Transport(server.socket)
    assert exchange(transport, 7) == 7
    with pytest.raises(ConnectionLost):
        exchange(transport, name="die")
    assert not transport.is_open


def test_killed_server_blocks_the_sender(start_server: Callable[..., Server]) -> None:
    """When the server ends in the middle of a stream, sending ends with ConnectionLost."""
    server = start_server()
    transport = Transport(server.socket)
    with pytest.raises(ConnectionLost):
        log(transport, entries(100_000, 1_000_000, name="die"))
    transport.close()


def test_stopped_reader_stalls_for_ever(start_server: Callable[..., Server]) -> None:
    """A server that reads no more is not waited for beyond the deadline."""
    transport = Transport(start_server().socket)
    with pytest.raises(errors.WaitTimeoutError):
        log(transport, entries(1_000_000, 1_000_000, name="slow"), timeout_s=0.5)


def test_another_users_socket_is_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The transport talks to nobody but a process of the same user."""
    other = 12_345
    monkeypatch.setattr("os.geteuid", lambda: other)
    with pytest.raises(errors.CommError, match=f"this is user {other}"):
        Transport(server.socket)


def test_protocol_library_raises_its_own(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ``h2`` refuses to send is a lost connection, which is not used again."""

    def refuse(*_: object) -> None:
        raise StreamClosedError(1)

    monkeypatch.setattr(Http2, "send_headers", refuse)
    with pytest.raises(ConnectionLost, match="StreamClosedError"):
        get_version(transport)
    assert not transport.is_open
